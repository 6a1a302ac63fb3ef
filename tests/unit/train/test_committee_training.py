"""Training of a committee: members differ, resume, stand on their own, and the summary says what they are worth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmace import load, model_hash
from mmace.committee import Committee
from mmace.errors import UserError
from mmace.train import TrainingConfig, train
from mmace.train.committee import train_committee

from .conftest import small_config


def quick(**settings) -> TrainingConfig:
    return TrainingConfig(**{"epochs": 2, "batch_size": 4, "num_threads": 1, **settings})


def test_members_are_ordinary_trainings_with_other_seeds(tmp_path, make_data):
    data = make_data(8)
    result = train_committee(small_config(seed=3), quick(seed=5), data, data[:3], tmp_path, 2)
    alone = train(small_config(seed=4), quick(seed=6), data, data[:3], tmp_path / "alone")
    assert model_hash(load(tmp_path / "member-1/model.safetensors")) == model_hash(alone.model)
    assert model_hash(result.models[0]) != model_hash(result.models[1])
    summary = json.loads((tmp_path / "committee.json").read_text())
    assert summary == result.summary
    assert [member["folder"] for member in summary["members"]] == ["member-0", "member-1"]
    committee = Committee.load(tmp_path)
    answer = committee.predict([c.to_atoms() for c in data[:3]])
    spread = np.sqrt(np.mean(answer["spread"]["forces"].numpy() ** 2))
    assert summary["spread"]["forces"] == pytest.approx(spread, rel=1e-9)
    errors = answer["mean"]["energy_per_atom"].numpy() - [c.energy / 2 for c in data[:3]]
    assert summary["mean"]["energy_rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-9)


def test_it_goes_on_with_the_member_that_was_stopped_and_takes_more(tmp_path, make_data):
    data = make_data(6)
    arguments = (small_config(), quick(), data, data[:2])
    calls = []

    def stopped(number, run):
        if number == 1 and len(calls) < 2:
            raise KeyboardInterrupt
        calls.append(number)
        return run(None)

    with pytest.raises(KeyboardInterrupt):
        train_committee(*arguments, tmp_path / "run", 2, runner=stopped)
    assert not (tmp_path / "run/committee.json").exists()
    resumed = train_committee(*arguments, tmp_path / "run", 3)
    unbroken = train_committee(*arguments, tmp_path / "unbroken", 3)
    assert [member.was_finished for member in resumed.members] == [True, False, False]
    assert [model_hash(m) for m in resumed.models] == [model_hash(m) for m in unbroken.models]


def test_bootstrap_draws_for_each_member_but_keeps_what_they_share(tmp_path, make_data):
    data = make_data(10)
    data[4].magmoms[0] = [0, 0, 3.5]
    plain = train_committee(small_config(), quick(epochs=1), data, data[:2], tmp_path / "plain", 2)
    drawn = train_committee(small_config(), quick(epochs=1), data, data[:2], tmp_path / "drawn", 2, bootstrap=True)
    assert {model.config.m_max["Fe"] for model in drawn.models} == {plain.models[0].config.m_max["Fe"]}
    assert model_hash(plain.models[0]) != model_hash(drawn.models[0])
    hashes = [json.loads((tmp_path / f"drawn/member-{n}/settings.json").read_text())["training data"] for n in (0, 1)]
    assert len(set(hashes)) == 2
    with pytest.raises(UserError, match="holds a run with other training data"):
        train_committee(small_config(), quick(epochs=1), data, data[:2], tmp_path / "plain", 2, bootstrap=True)
    with pytest.raises(UserError, match="at least two"):
        train_committee(small_config(), quick(), data, data[:2], tmp_path / "one", 1)
