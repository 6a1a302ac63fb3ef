"""Settings of `mmace train` from its YAML file and options; every refusal names the file and the setting."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError, unknown_key_message
from mmace.fields import FIELDS
from mmace_flows.cli.learning_sections import SECTIONS

if TYPE_CHECKING:  # torch takes seconds to import; `mmace --help` must not wait for it
    from mmace.config import PotentialConfig
    from mmace.data import ReadOptions
    from mmace.train import TrainingConfig

STORE = "store:"  # begins the name of data that are labels of the store


def read_settings(path: Path | None, refused: Sequence[str] = (), command: str = "") -> dict[str, Any]:
    """Sections of the settings file; {} without one.

    Parameters: ``refused`` sections that ``command`` has no use for. Raises `UserError`.
    """
    if path is None:
        return {}
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        settings = yaml.safe_load(text)
        refuse_repeated(yaml.compose(text, Loader=yaml.SafeLoader), path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"{path}: cannot be read ({reason}); give a YAML file of settings") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())}); correct it") from error
    if settings is None:
        raise UserError(f"{path}: the file is empty; write sections {', '.join(SECTIONS)}, or leave it out")
    if not isinstance(settings, dict):
        raise UserError(
            f"{path}: expected sections {', '.join(SECTIONS)}; write them as 'name: value', "
            f"or give structures with --data {path}"
        )
    for name, value in settings.items():
        if name not in SECTIONS:
            raise UserError(unknown_key_message(str(name), SECTIONS, str(path)))
        if name in refused:
            raise UserError(f"{path}: {name} means nothing to mmace {command}; remove it")
        if name in ("keys", "model", "training") and not isinstance(value, dict | None):
            raise UserError(f"{path}: {name} is {value!r}; write settings below it as 'name: value'")
    for name in ("zero_moments", "bootstrap", "tensorboard"):
        if not isinstance(settings.get(name, False), bool):
            raise UserError(f"{path}: {name} is {settings[name]!r}; give true or false")
    committee = settings.get("committee", 1)
    if isinstance(committee, bool) or not isinstance(committee, int) or committee < 1:
        raise UserError(f"{path}: committee is {committee!r}; give the number of members")
    for name in ("format", "elements"):
        value = settings.get(name)
        if value is not None and not isinstance(value, str | list):
            raise UserError(f"{path}: {name} is {value!r}; give text, or a list of elements")
    for field in settings.get("keys") or {}:
        if field not in FIELDS:
            raise UserError(unknown_key_message(str(field), FIELDS, f"{path}: keys"))
    return settings


def refuse_repeated(node: Any, path: Path) -> None:
    """Raises `UserError` for a setting that stands twice in the YAML ``node``: YAML would silently take the last."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            refuse_repeated(value, path)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and lines.setdefault(key.value, line) != line:
            raise UserError(f"{path}: line {line}: {key.value} stands in line {lines[key.value]} already; remove one")
        refuse_repeated(value, path)


def check_folder(folder: Path, option: str) -> None:
    """Raises `UserError` where a folder to write into is something else, before hours are spent on the data."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"{option} {folder}: {place} is a file; give a folder")


def check_output(folder: Path, members: int) -> None:
    """Raises `UserError` if ``folder`` is a file, or a committee would mix with a single run there."""
    check_folder(folder, "--output")
    if members == 1 and (folder / "member-0").is_dir():
        raise UserError(f"{folder}: holds a committee (member-0); choose another --output, or give --committee N")
    if members > 1 and (folder / "state.pt").exists():
        raise UserError(f"{folder}: holds a run of a single model (state.pt); choose another --output")


def data_options(
    settings: dict[str, Any], keys: list[str] | None, format: str | None, elements: str | None, zero_moments: bool
) -> ReadOptions:
    """How data are read: the settings file's sections, and the options, which win over it. Raises `UserError`."""
    from mmace_flows.cli.data_source import read_options

    given = settings.get("elements")
    return read_options(
        {**(settings.get("keys") or {}), **parsed_keys(keys)},
        format or settings.get("format"),
        elements or (",".join(map(str, given)) if isinstance(given, list) else given),
        zero_moments or settings.get("zero_moments", False),
    )


def path_of(settings: dict[str, Any], name: str, config_file: Path | None) -> Path | None:
    """A path of the settings file, relative to the file's folder."""
    if settings.get(name) is None or config_file is None:
        return None
    return located(str(settings[name]), config_file)


def located(name: str, config_file: Path) -> Path:
    """What the settings file calls ``name``."""
    return Path(name) if name.startswith(STORE) else config_file.parent / name  # the store is in no folder


def parsed_keys(pairs: list[str] | None) -> dict[str, str]:

    keys = {}
    for pair in pairs or []:
        field, separator, key = pair.partition("=")
        if not separator or not field or not key:
            raise UserError(f"--key {pair}: write it as FIELD=KEY, for example magmoms=magmoms")
        keys[field] = key
    return keys


def check_fraction(fraction: Any, where: str) -> None:
    """Raises `UserError` if this is no part that can be put aside."""
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction < 1:
        raise UserError(f"{where}: valid_fraction is {fraction!r}; give a number between 0 and 1")


def checkpoint_file(path: Path) -> Path:
    """``path``, unless it is a folder: `UserError` that names the likely file."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the checkpoint file, for example {path / 'model.safetensors'}")
    return path


def training_config(settings: dict[str, Any], where: str, finetune: bool = False) -> TrainingConfig:
    """Settings of the training, with the defaults of fine-tuning if asked for. Raises `UserError` that begins with
    ``where`` and the section."""
    from mmace.train import TrainingConfig
    from mmace.train.distributed import find_device
    from mmace.train.finetune import finetuning_config

    try:
        config = (finetuning_config if finetune else TrainingConfig.from_dict)(settings, f"{where}: training")
        find_device(config.device)  # a missing GPU is told before hours are spent on the data
        return config
    except UserError as error:
        raise UserError(_in_file(str(error), "training: ", f"{where}: training: ")) from None


def model_config(settings: dict[str, Any], where: str) -> PotentialConfig:
    """Settings of the potential. Raises `UserError` that begins with ``where`` and the section."""
    from mmace.config import PotentialConfig

    section = f"{where}: model"
    kinds = {field.name: field for field in dataclasses.fields(PotentialConfig)}
    values = {
        name: _of_kind(value, kinds[name], section) if name in kinds else value for name, value in settings.items()
    }
    try:
        return PotentialConfig.from_dict(values, section)
    except UserError as error:
        raise UserError(_in_file(str(error), "potential: ", f"{section}: ")) from None


def check_model_settings(settings: dict[str, Any], where: str) -> None:
    """Refuses settings of a new potential that are wrong whatever elements the data have. Raises `UserError`."""
    limits = settings.get("m_max")
    known = sorted(map(str, limits)) if isinstance(limits, dict) and limits else ["H"]
    model_config({"elements": known, **settings}, where)


def _in_file(message: str, section: str, place: str) -> str:
    """``message`` with ``place`` where it has only the name of a section."""
    return place + message.removeprefix(section) if message.startswith(section) else message


def _of_kind(value: Any, field: dataclasses.Field[Any], section: str) -> Any:
    """``value`` if it is of the kind of the setting's default. YAML reads "1e-3" as text: it is meant as a number."""
    if field.name == "anisotropy":
        if value is None or isinstance(value, dict):
            return value
        raise UserError(f"{section}: anisotropy is {value!r}; give settings of a potential, for example {{l_mag: 3}}")
    default = [] if field.default is dataclasses.MISSING else field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    kind = type(default)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    good, wanted = {
        bool: (isinstance(value, bool), "true or false"),
        int: (isinstance(value, int) and number, "a whole number"),
        float: (number or _is_number(value), "a number"),
        str: (isinstance(value, str), "text"),
        dict: (_are_numbers(value), "one number per element"),
        list: (isinstance(value, list), "a list, for example [Fe, Ni]"),
        tuple: (isinstance(value, list | tuple), "a list"),
    }[kind]
    if not good:
        raise UserError(f"{section}: {field.name} is {value!r}; give {wanted}")
    return float(value) if kind is float else value


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return isinstance(value, str)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in value.values()
    )
