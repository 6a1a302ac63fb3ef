"""Settings: sources, their order, and one clear line for what is wrong."""

from pathlib import Path

import pytest

from mmace.errors import UserError
from mmace_flows.execution.doctor import _hardware
from mmace_flows.execution.embedded import EmbeddedDatabase
from mmace_flows.execution.server import ServerConfig
from mmace_flows.execution.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(f"MMACE_{field.upper()}", raising=False)
    monkeypatch.delenv("MMACE_SETTINGS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.data_dir == tmp_path / ".mmace"
    assert settings.database is None and settings.workers >= 1


def test_environment_beats_file_and_arguments_beat_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".mmace").mkdir()
    (tmp_path / ".mmace" / "settings.yaml").write_text("workers: 3\ndata_dir: /file\ndatabase_port: 4000\n")
    monkeypatch.setenv("MMACE_DATA_DIR", "/environment")
    monkeypatch.setenv("MMACE_DATABASE_PORT", "")
    settings = load_settings()
    assert (settings.workers, settings.data_dir, settings.database_port) == (3, Path("/environment"), 4000)
    assert load_settings(data_dir=Path("/argument"), workers=None).data_dir == Path("/argument")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("worker: 3", ["settings.yaml", "'worker'", "did you mean 'workers'"]),
        ("workers: many", ["settings.yaml", "workers", "'many'"]),
        ("workers: 0", ["workers", "greater than or equal to 1"]),
        ("- a\n- b", ["settings.yaml", "data_dir: /some/folder"]),
        ("a: [", ["settings.yaml", "not a YAML file"]),
    ],
)
def test_wrong_file(text: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    monkeypatch.setenv("MMACE_SETTINGS", str(tmp_path / "settings.yaml"))
    with pytest.raises(UserError) as caught:
        load_settings()
    message = str(caught.value)
    assert all(word in message for word in words) and "\n" not in message


def test_a_data_folder_that_cannot_be_made_names_who_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    wrong = tmp_path / "file" / "data"
    for words in ("choose another with --data-dir", "it comes from MMACE_DATA_DIR: correct that"):
        settings = load_settings() if "MMACE" in words else load_settings(data_dir=wrong)
        with pytest.raises(UserError, match=words):
            EmbeddedDatabase(settings).join()
        monkeypatch.setenv("MMACE_DATA_DIR", str(wrong))


def test_the_doctor_names_a_variable_only_if_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = next(_hardware(load_settings()))
    assert cores.detail.endswith("jobs at a time")
    monkeypatch.setenv("MMACE_WORKERS", "3")
    assert next(_hardware(load_settings())).detail.endswith(", 3 jobs at a time (MMACE_WORKERS)")


def test_misspelt_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMACE_DATADIR", "/x")
    with pytest.raises(UserError, match="did you mean 'MMACE_DATA_DIR'"):
        load_settings()


def test_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMACE_WORKERS", "two")
    with pytest.raises(UserError, match=r"MMACE_WORKERS: .*'two'"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hots: a", "unknown setting 'hots'; did you mean 'host'"),
        ("password: secret", "'password' does not belong in a file"),
        ("username: me", "'password_env' must name"),
        ("port: 99999", "port: .*99999"),
        ("just words", "expected lines like"),
    ],
)
def test_wrong_server_file(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        ServerConfig.from_file(file)


def test_server_password_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("host: h\nusername: me\npassword_env: MY_PASSWORD\ntls: true\n")
    config = ServerConfig.from_file(file)
    with pytest.raises(UserError, match="MY_PASSWORD is not set"):
        config.client_arguments()
    monkeypatch.setenv("MY_PASSWORD", "s3cret")
    arguments = config.client_arguments()
    assert arguments["password"] == "s3cret" and arguments["tls"] is True and arguments["authSource"] == "admin"
    assert "s3cret" not in repr(config)


def test_template_is_valid() -> None:
    template = Path(__file__).parents[3] / "db_config" / "own_server.yaml"
    assert ServerConfig.from_file(template).password_env == "MMACE_DATABASE_PASSWORD"
