"""The model folder."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bae import recipes
from bae.errors import ModelError
from bae.method import model
from bae.method.calibration import Calibration, Shape
from bae.method.networks import Localizer, Regressor
from bae.method.predictor import Predictor
from tests.fakes import tiny


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights."""
    folder = tmp_path_factory.mktemp("model")
    tiny.write_model(folder, recipes.small())
    return folder


def _copy(source: Path, target: Path) -> Path:
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_model_comes_back_as_it_was_saved(whole: Path) -> None:
    """Every tensor, the recipe, and an id that depends on both."""
    card = model.load_card(str(whole))
    assert card.recipe == recipes.small()
    torch.manual_seed(0)
    expected = Localizer(card.recipe.localizer).state_dict()
    got = model.load_localizer(str(whole), card).state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    assert json.loads((whole / "card.json").read_text())["model_id"] == card.model_id
    assert len(card.model_id) == 12


def test_calibration_comes_back_and_makes_another_model(whole: Path, tmp_path: Path) -> None:
    """Intervals are part of what a model answers, so its id changes; older cards have none."""
    folder = _copy(whole, tmp_path)
    card = model.load_card(str(folder))
    assert card.calibration is None
    calibration = Calibration(
        patients=20,
        scans=30,
        factor=2.5,
        floor_years=1.0,
        temperature=1.2,
        bias_slope=0.8,
        bias_intercept_years=12.0,
    )
    calibrated = replace(card, calibration=calibration, validation={"mae_years": {"value": 5.0}})
    model.save_card(str(folder), calibrated)
    assert model.load_card(str(folder)) == calibrated
    assert calibrated.model_id != card.model_id


def test_model_of_whole_views_is_whole_without_a_localizer(whole: Path, tmp_path: Path) -> None:
    """Table 1's other methods can be scored with; one with regions needs both networks."""
    assert model.check(str(whole)) == model.load_card(str(whole))
    recipe = recipes.recipe("small_xception", ["regressor.width=48", "regressor.height=64"])
    card = model.Card(recipe=recipe, parts={})
    model.save_part(str(tmp_path), card, "regressor", Regressor(recipe.regressor).state_dict(), {})
    assert set(model.check(str(tmp_path)).parts) == {"regressor"}
    broken = tmp_path / "broken"
    broken.mkdir()
    (_copy(whole, broken) / "localizer.safetensors").unlink()
    with pytest.raises(ModelError, match="missing though the card names it"):
        model.check(str(broken))


def test_copied_model_is_whole_and_the_same(whole: Path, tmp_path: Path) -> None:
    """Both networks and the card that names them; the copy can be scored with."""
    card = model.load_card(str(whole))
    model.copy(str(whole), str(tmp_path), card)
    assert model.check(str(tmp_path)) == card


def test_folder_holds_two_weight_files_and_a_card(whole: Path) -> None:
    """Nothing else, and no pickle."""
    names = sorted(p.name for p in whole.iterdir())
    assert names == ["card.json", "localizer.safetensors", "regressor.safetensors"]


def test_missing_folder_says_what_to_run(tmp_path: Path) -> None:
    """One sentence."""
    with pytest.raises(ModelError, match=r"run jobs\.train_localizer first"):
        Predictor.load(str(tmp_path / "nothing"))


def test_model_without_regressor_is_refused(whole: Path, tmp_path: Path) -> None:
    """The card names the localizer only."""
    folder = _copy(whole, tmp_path)
    values = json.loads((folder / "card.json").read_text())
    del values["parts"]["regressor"]
    (folder / "card.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"no regressor; run jobs\.train_regressor"):
        Predictor.load(str(folder))


def test_weights_that_are_not_the_cards_are_refused_unread(whole: Path, tmp_path: Path) -> None:
    """Even a pickle that would run code: the hash is checked first, and nothing unpickles."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "sprung"),))

    folder = tmp_path / "m"
    folder.mkdir()
    _copy(whole, folder)
    (folder / "regressor.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError, match="sha256 differs"):
        Predictor.load(str(folder))
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_recipe_are_refused(whole: Path, tmp_path: Path) -> None:
    """Right hash, wrong shapes."""
    folder = _copy(whole, tmp_path)
    values = json.loads((folder / "card.json").read_text())
    values["recipe"]["regressor"]["hidden_neurons"] = 64
    (folder / "card.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match="does not fit the card's recipe"):
        Predictor.load(str(folder))


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"recipe": {}, "parts": 3}'])
def test_broken_card_is_refused(tmp_path: Path, text: str) -> None:
    """No KeyError escapes."""
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(ModelError, match="not a card"):
        model.load_card(str(tmp_path))


def test_old_cards_keep_their_model_id(whole: Path, tmp_path: Path) -> None:
    """Else the night after an update would score every scan again; this one is of version 0.2."""
    made = replace(model.load_card(str(whole)), calibration=OLD)
    model.save_card(str(tmp_path), made)
    written = json.loads((tmp_path / "card.json").read_text())
    assert set(written["calibration"]) == {
        "patients", "scans", "level", "factor", "floor_years", "temperature",
        "bias_slope", "bias_intercept_years",
    }  # fmt: skip
    assert model.load_card(str(tmp_path)).model_id == made.model_id == written["model_id"]
    new = replace(made, calibration=replace(OLD, shape=SHAPE, floor_years=0.0))
    model.save_card(str(tmp_path), new)
    again = model.load_card(str(tmp_path))
    assert again.calibration == new.calibration and again.model_id == new.model_id != made.model_id


def _altered(value: object) -> Iterator[object]:
    """Yield a JSON value with one entry after the other put to something else."""
    for other in (None, 7, "x", [], [1], {}, {"a": 1}):
        if other != value:
            yield other
    if isinstance(value, dict):
        for key, entry in value.items():
            yield {name: each for name, each in value.items() if name != key}
            for changed in _altered(entry):
                yield value | {key: changed}


OLD = Calibration(
    patients=9,
    scans=9,
    factor=1.0,
    floor_years=1.0,
    temperature=1.0,
    bias_slope=1.0,
    bias_intercept_years=0.0,
)
"""As cards had it before intervals had a shape."""
SHAPE = Shape(
    ages=(45.0, 75.0), spreads=(1.0, 0.5), middle=(0.0,) * 6, size=(3.0,) * 6, usual_years=3.0
)


@pytest.mark.parametrize("fitted", [OLD, replace(OLD, shape=SHAPE, floor_years=0.0)])
def test_a_card_from_elsewhere_is_a_sentence(
    whole: Path, tmp_path: Path, fitted: Calibration
) -> None:
    """Any entry of another kind, a list, a piece, bytes: refused, or a card that can be used."""
    made = replace(model.load_card(str(whole)), calibration=fitted)
    model.save_card(str(tmp_path), made)
    file = tmp_path / "card.json"
    good = json.loads(file.read_text())
    texts = [json.dumps(values).encode() for values in _altered(good)]
    for text in [*texts, file.read_bytes()[:99], bytes(range(256)), b"", b"[" * 9999]:
        file.write_bytes(text)
        try:
            card = model.load_card(str(tmp_path))
            assert len(card.model_id) == 12
            if card.calibration is not None and card.calibration.factor is not None:
                assert card.calibration.interval([60.0], [1.0], [1.0]) is not None
            for part in card.parts.values():
                assert part.sha256.isprintable() and not {*part.data} & {1}
        except ModelError as error:
            assert "\n" not in str(error)
