"""Projects: files that are made, files that are wrong, secrets that others may read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mmace.errors import UserError
from mmace_flows.cli.app import app
from mmace_flows.execution.launch import load_qadapter
from mmace_flows.execution.projects import ProjectConfig, WorkerConfig, open_project
from mmace_flows.execution.projects_init import TEMPLATES, NewProject, init_project, with_values
from mmace_flows.execution.secret_files import read_secret
from mmace_flows.execution.server import ServerConfig, read_uri


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MMACE_DATABASE", "MMACE_JOB_STORE", "MMACE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MMACE_DATA_DIR", str(tmp_path / "home"))
    return tmp_path / "home"


def uri(tmp_path: Path, text: str = "mongodb://ada:s%40crt@db1:27018/mag?tls=true&authSource=admin") -> Path:
    file = tmp_path / "uri"
    file.write_text(text + "\n")
    file.chmod(0o600)
    return file


def test_templates_are_valid_as_they_stand() -> None:
    """Every template is read by the very code that reads the filled-in file."""
    ProjectConfig.model_validate(yaml.safe_load((TEMPLATES / "project.yaml").read_text()))
    for kind in ("cpu", "gpu"):
        WorkerConfig.model_validate(yaml.safe_load((TEMPLATES / f"worker_{kind}.yaml").read_text()))
        assert "mmace worker" in yaml.safe_load((TEMPLATES / f"slurm_{kind}.yaml").read_text())["rocket_launch"]
    assert ServerConfig.from_file(TEMPLATES / "own_server.yaml").username == "mmace"
    yaml.safe_load((TEMPLATES / "mongod.yaml").read_text())
    arrays = yaml.safe_load((TEMPLATES / "job_store_s3.yaml").read_text())["additional_stores"]["data"]
    assert arrays["type"] == "ProjectS3Store"


def test_fireworks_reads_what_init_writes(tmp_path: Path) -> None:
    from fireworks import FWorker

    made = init_project(
        NewProject("group", uri(tmp_path), slurm=True, gpu=True, partition="long", account="abc", walltime="12:00:00")
    )
    worker = FWorker.from_file(str(made.folder / "worker_cpu.yaml"))
    assert worker.query["spec._category"] == {"$in": ["cpu"]} and made.worker("gpu").categories == ("gpu",)
    script = load_qadapter(made, "cpu").get_script_str(str(tmp_path))
    for line in ("#SBATCH --time=12:00:00", "#SBATCH --partition=long", "#SBATCH --account=abc", "OMP_NUM_THREADS=1"):
        assert line in script
    assert f"worker cpu --project {made.folder}" in script and "$${" not in script
    assert "#SBATCH --gres=gpu:1" in load_qadapter(made, "gpu").get_script_str(str(tmp_path))
    launchpad = yaml.safe_load((made.folder / "launchpad.yaml").read_text())
    assert launchpad["mongoclient_kwargs"] == {"tls": True} and launchpad["password"] is None


def test_the_password_stands_in_one_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    made = init_project(NewProject("group", uri(tmp_path), slurm=True))
    texts = {path.name: path.read_text() for path in made.folder.iterdir()}
    assert [name for name, text in texts.items() if "s@crt" in text] == ["password"]
    assert (made.folder / "password").stat().st_mode & 0o777 == 0o600
    server = ServerConfig.from_file(made.folder / "database.yaml")
    assert server.client_arguments()["password"] == "s@crt" and server.port == 27018
    (made.folder / "password").chmod(0o644)
    with pytest.raises(UserError, match=r"password: others may read it \(mode 0644\); chmod 600"):
        server.password()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_secrets_that_others_may_read_are_refused(mode: int, tmp_path: Path) -> None:
    file = uri(tmp_path)
    file.chmod(mode)
    with pytest.raises(UserError, match="others may read it"):
        read_uri(file)
    file.chmod(0o600)
    assert read_uri(file)[1] == "s@crt"


def test_wrong_addresses_do_not_show_what_they_hold(tmp_path: Path) -> None:
    for text in ("mongodb://ada:top:secret@db", "mongodb://", "mongodb://ada:topsecret@db:port"):
        with pytest.raises(UserError, match="not a MongoDB address") as caught:
            read_uri(uri(tmp_path, text))
        assert "topsecret" not in str(caught.value) and "top:secret" not in str(caught.value)
    empty = uri(tmp_path, "")
    with pytest.raises(UserError, match="is empty"):
        read_secret(empty)


def test_values_are_replaced_and_comments_kept() -> None:
    text = "# head\nhost: a  # which\n# more: 1\nlist: [1, 2]\n"
    assert with_values(text, {"host": "b", "more": 2, "list": None, "new": "12:00:00"}) == (
        "# head\nhost: b  # which\nmore: 2\n# list: [1, 2]\nnew: '12:00:00'\n"
    )


def test_embedded_project_by_name_and_by_folder(tmp_path: Path, home: Path) -> None:
    made = init_project(NewProject("laptop"))
    assert made.folder == home / "projects" / "laptop" and made.settings().database is None
    assert made.serving("gpu") == ["cpu"], "without GPU workers, training runs on processors"
    assert open_project(str(made.folder)).config == open_project("laptop").config
    with pytest.raises(UserError, match="exists; edit it"):
        init_project(NewProject("laptop"))
    with pytest.raises(UserError, match=r"no project 'lapto' .*known: laptop"):
        open_project("lapto")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dta_dir: x", "did you mean 'data_dir'"),
        ("workers: 3", "workers: expected a mapping"),
        ("database: nowhere.yaml", "nowhere.yaml is not there"),
    ],
)
def test_mistakes_in_project_yaml_are_one_line(line: str, words: str) -> None:
    made = init_project(NewProject("laptop"))
    key = line.partition(":")[0]
    text = (
        with_values(made.file.read_text(), {key: yaml.safe_load(line)[key]})
        if key != "workers"
        else f"name: a\n{line}\n"
    )
    made.file.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        open_project("laptop")
    assert str(made.file) in str(caught.value)


def test_command_line_mistakes(tmp_path: Path) -> None:
    for arguments, words in (
        (["project", "init", "a", "--walltime", "2h"], "expected hours:minutes:seconds"),
        (["project", "init", "a", "--database", str(tmp_path / "no")], "cannot be read"),
        (["project", "init", "a b"], "use letters"),
        (["project", "check", "nosuch"], "mmace project init nosuch"),
        (["submit", "workflows/feni.py"], "--project NAME"),
        (["worker", "--project", "nosuch"], "no project 'nosuch'"),
        (["campaigns", "--project", "x", "--data-dir", "y"], "leave one of them out"),
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code != 0 and words in str(result.exception), (arguments, result.output, result.exception)


def test_job_store_of_ones_own(tmp_path: Path) -> None:
    from mmace_flows.execution.job_store import load_job_store

    file = tmp_path / "store.yaml"
    file.write_text("docs_store: {type: MemoryStore}\nadditional_stores: {data: {type: MemoryStore, key: blob_uuid}}\n")
    store = load_job_store(file)
    store.update({"uuid": "a", "index": 1, "output": {"array": [1.0]}}, save={"data": ["array"]})
    assert store.query_one({"uuid": "a"}, load=True)["output"]["array"] == [1.0]
    for text, words in (
        ("docs_stores: 1", "did you mean 'docs_store'"),
        ("docs_store: {type: NoStore}", "not a store"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=words):
            load_job_store(file)
