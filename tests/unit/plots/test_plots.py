"""Figures come out whole, with what they must say, and never take a training with them."""

from __future__ import annotations

import json
import logging

import ase.io
import numpy as np
import pytest
from ase import Atoms

from mmace.plots.learning import history_figure
from mmace.plots.parity import MOST_POINTS, parity_figure
from mmace.plots.training import evaluation_plots, write_figure
from mmace.plots.uncertainty import calibration_figure
from mmace_flows.cli.app import run

SMALL = """
model: {r_max: 3.5, hidden: 4x0e, l_pos: 1, correlation: 2, num_bessel: 4, num_chebyshev: 3, radial_hidden: [8]}
training: {epochs: 2, batch_size: 4, num_threads: 1}
"""


def points(count: int, branches: tuple[str, ...] = ("FM", "AFM")) -> dict[str, dict]:
    label = np.linspace(-1.0, 1.0, count)
    given = {"label": label, "prediction": label + 0.01, "branch": [branches[i % len(branches)] for i in range(count)]}
    empty = {"label": np.zeros(0), "prediction": np.zeros(0), "branch": []}
    return {"energy": given, "forces": given, "stress": empty, "magnetic_forces": empty}


def texts(figure) -> str:
    axes = figure.axes
    return " | ".join(text.get_text() for axis in axes for text in [*axis.texts, axis.title, axis.xaxis.label])


def test_parity_has_a_panel_per_labelled_quantity_and_says_the_error():
    figure = parity_figure({"training": points(20), "validation": points(7, ("non-collinear",))})
    assert len(figure.axes) == 4  # two sets, energy and forces
    said = texts(figure)
    assert said.count("RMSE 10 meV/atom") == 2
    assert said.count("RMSE 10 meV/Å") == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["FM", "AFM", "non-collinear"]
    assert parity_figure({"training": points(0)}) is None


def test_large_sets_are_thinned_but_all_errors_count():
    figure = parity_figure({"training": points(5 * MOST_POINTS)})
    assert max(len(line.get_xdata()) for line in figure.axes[0].lines) <= MOST_POINTS
    assert "RMSE 10 meV/atom" in texts(figure)


def test_stress_error_is_the_one_of_the_table():
    generator = np.random.default_rng(0)
    labels, predictions = generator.normal(size=(2, 5, 3, 3))
    labels, predictions = labels + labels.transpose(0, 2, 1), predictions + predictions.transpose(0, 2, 1)
    upper = np.triu_indices(3)
    flat = [np.concatenate([matrix[upper] for matrix in matrices]) for matrices in (labels, predictions)]
    given = {**points(0), "stress": {"label": flat[0], "prediction": flat[1], "branch": ["FM"] * 30}}
    expected = np.sqrt(np.mean((labels - predictions) ** 2)) * 160.21766208
    assert f"RMSE {expected:.3g} GPa" in texts(parity_figure({"validation": given}))


def test_learning_curve():
    history = [
        {"epoch": e, "loss": 1 / e, "valid_loss": 2 / e, "energy_rmse": 0.1 / e, "forces_rmse": None, "best_epoch": 3}
        for e in (1, 2, 3)
    ]
    figure = history_figure(history)
    assert len(figure.axes) == 2  # losses, energy
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [100.0, 50.0, 100 / 3])
    assert history_figure([]) is None


def test_calibration_figure_says_coverage():
    generator = np.random.default_rng(0)
    sigmas = np.exp(generator.normal(-5, 1, 300))
    figure = calibration_figure(sigmas * generator.normal(size=300), sigmas, ["FM"] * 300, "title")
    assert "within σ 6" in texts(figure) or "within σ 7" in texts(figure)


def test_a_figure_that_fails_is_one_warning(tmp_path, caplog):
    def broken():
        raise RuntimeError("no\nfont")

    with caplog.at_level(logging.WARNING, "mmace"):
        assert write_figure(broken, tmp_path / "x.png") is None
        assert evaluation_plots(None, [], tmp_path) == []  # type: ignore[arg-type]
    assert "x.png: could not be drawn (no font)" in caplog.messages[0]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    frames = []
    for _ in range(12):
        atoms = Atoms("Fe2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.8] * 3, pbc=True)
        atoms.positions += generator.normal(scale=0.05, size=(2, 3))
        atoms.arrays["REF_magmom"] = generator.normal(size=(2, 3))
        atoms.arrays["REF_forces"] = generator.normal(scale=0.3, size=(2, 3))
        atoms.info["REF_energy"] = -16.0 + generator.normal(scale=0.1)
        frames.append(atoms)
    ase.io.write("data.extxyz", frames, format="extxyz")
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def test_training_evaluation_and_uncertainty_by_command(folder, capsys, monkeypatch):
    command = ["train", "small.yaml", "--data", "data.extxyz", "--valid", "data.extxyz", "--output"]
    assert run([*command, "out"]) == 0
    for name in ("parity.png", "learning-curve.png"):
        assert (folder / "out" / name).read_bytes()[:4] == b"\x89PNG"
    model = "out/model.safetensors"
    capsys.readouterr()
    assert run(["uncertainty", "fit", model, "--data", "data.extxyz", "--valid", "data.extxyz", "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert fitted["held_out"] and fitted["after"]["count"] == 12
    assert (folder / "out/uncertainty.png").exists()
    assert run(["uncertainty", "fit", model, "--data", "data.extxyz"]) == 0
    assert "give --valid" in capsys.readouterr().out
    arguments = ["--plots", "figures", "--uncertainty", "out/uncertainty.safetensors", "--json"]
    assert run(["evaluate", model, "data.extxyz", *arguments]) == 0
    judged = json.loads(capsys.readouterr().out)["uncertainty"]
    assert set(judged) == {"energy_per_atom"}
    assert 0 <= judged["energy_per_atom"]["coverage_68"] <= 1
    assert (folder / "figures/parity.png").exists()

    import mmace.plots.training as plots

    monkeypatch.setattr(plots, "_parity", lambda *_: 1 / 0)
    assert run([*command, "again"]) == 0
    assert not (folder / "again/parity.png").exists()
    assert (folder / "again/model.safetensors").exists()
    assert run([*command, "bare", "--no-plots"]) == 0
    assert not list((folder / "bare").glob("*.png"))


def test_one_body_file_reaches_the_training(folder, capsys):
    rows = ["element,moment,energy", *(f"Fe,{m},{-3 - 0.4 * m**2 + 0.02 * m**4}" for m in np.linspace(0, 4, 9))]
    (folder / "atoms.csv").write_text("\n".join(rows) + "\n")
    assert run(["fit-one-body", "atoms.csv", "-o", "curves.json"]) == 0
    (folder / "with.yaml").write_text(SMALL + "one_body: curves.json\n")
    assert run(["train", "with.yaml", "--data", "data.extxyz", "--output", "out", "--no-plots"]) == 0
    from mmace import load

    assert bool(load("out/model.safetensors").one_body.coefficients.any())
    assert run(["train", "small.yaml", "--data", "data.extxyz", "--output", "x", "--one-body", "no.json"]) == 2
    assert "no.json: cannot be read" in capsys.readouterr().err
