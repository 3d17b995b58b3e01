"""No reader errs less than ``phantom.json`` says, and a good one comes near."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict

from bae.phantom import PhantomConfig, ageing, lesions
from bae.phantom.anatomy.skeleton import skeleton
from bae.phantom.limits import in_field, latent_mae_years, limits
from bae.phantom.people import age_at, generator, visit
from bae.phantom.scan import make
from bae.phantom.world import World, world
from bae.scan import FEMALE, MALE

Floats = NDArray[np.float64]

PEOPLE, LEARN = 24_000, 16_000


@dataclass(frozen=True)
class People:
    """What is true of simulated people: no picture, and nothing of how the limit is computed."""

    age: Floats
    women: NDArray[np.bool_]
    uptake: Floats
    foci: Floats


def _people(config: PhantomConfig) -> People:
    assumed, names, rng = world(config.world), skeleton().names, generator(99, config.world)
    fields = in_field(config, 7, 200)
    ages, women, uptake, foci = [], [], [], []
    for i in range(PEOPLE):
        sex = FEMALE if rng.random() < assumed.women_share else MALE
        age = float(age_at(rng.uniform(*config.ages), sex, config.ages, assumed))
        latent = age + config.latent_sd_years * rng.standard_normal()
        factors, _ = ageing.uptake(latent, sex, rng, rng, assumed.effects)
        seen = fields[i % len(fields)]
        ages.append(age)
        women.append(sex == FEMALE)
        uptake.append(np.where(seen, np.log(factors), np.nan))
        foci.append(
            [
                sum(seen[names.index(f.part)] for f in lesions.degenerative(latent, sex, rng, (c,)))
                for c in assumed.clocks
            ]
        )
    return People(np.array(ages), np.array(women), np.array(uptake), np.array(foci, dtype=float))


def _learned_errors(people: People) -> Floats:
    """Return the absolute errors of ridge regression and boosted trees on others than they saw.

    Ridge predicts age and its hinges, for courses that bend; trees put them together.
    """
    bones = people.uptake[:, np.nanstd(people.uptake, axis=0) > 0]
    missing = np.isnan(bones)
    filled = np.where(missing, np.nanmean(bones, axis=0), bones)
    told = np.concatenate([filled, people.foci, np.sqrt(people.foci)], axis=1)
    hinges = [np.maximum(people.age - knot, 0.0) for knot in (45.0, 55.0, 65.0)]
    targets = np.stack([people.age, *hinges], axis=1)
    extra = np.concatenate([missing.mean(axis=1, keepdims=True), people.foci], axis=1)
    learning = np.arange(PEOPLE) < LEARN
    errors = []
    for sex in (people.women, ~people.women):
        known, asked = sex & learning, sex & ~learning
        scaled = (told - told[known].mean(axis=0)) / (told[known].std(axis=0) + 1e-9)
        ridge = RidgeCV(alphas=(10, 100, 1000)).fit(scaled[known], targets[known])
        own = cross_val_predict(ridge, scaled[known], targets[known], cv=5)
        trees = HistGradientBoostingRegressor(
            loss="absolute_error",
            learning_rate=0.04,
            max_iter=200,
            max_leaf_nodes=8,
            min_samples_leaf=60,
            l2_regularization=10.0,
            random_state=0,
        ).fit(np.concatenate([own, extra[known]], axis=1), people.age[known] - own[:, 0])
        others = ridge.predict(scaled[asked])
        better = trees.predict(np.concatenate([others, extra[asked]], axis=1))
        errors.append(np.abs(people.age[asked] - others[:, 0] - better))
    return np.concatenate(errors)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 5, 7])
def test_learning_from_true_uptake_comes_near_the_limit_and_never_below(number: int) -> None:
    """Ridge and boosted trees on the uptake of other people: a reader of another kind."""
    config = PhantomConfig(world=number)
    errors, limit = _learned_errors(_people(config)), limits(config).regional
    noise = errors.std() / np.sqrt(errors.size)
    assert limit - 2.5 * noise < errors.mean() < 1.04 * limit


@pytest.mark.parametrize("number", [0, 3, 4])
def test_latent_limit_is_what_simulated_people_give(number: int) -> None:
    """200,000 people of each sex, guessed at the median of those of like latent age."""
    config, assumed, rng = PhantomConfig(world=number), world(number), np.random.default_rng(0)
    errors = []
    for sex in (FEMALE, MALE):
        age = np.asarray(age_at(rng.uniform(*config.ages, 200_000), sex, config.ages, assumed))
        latent = age + config.latent_sd_years * rng.standard_normal(age.size)
        groups = age[np.argsort(latent)].reshape(400, 500)
        middle = np.median(groups, axis=1, keepdims=True)
        errors.append(np.abs(groups - middle).mean())
    expected = assumed.women_share * errors[0] + (1 - assumed.women_share) * errors[1]
    assert latent_mae_years(config) == pytest.approx(expected, abs=0.02)


def test_a_noisy_reading_of_latent_age_is_like_more_noise_of_persons() -> None:
    """3 and 4 years make 5."""
    for number in (0, 3):
        both = latent_mae_years(PhantomConfig(world=number, latent_sd_years=3.0), reader_sd=4.0)
        assert both == pytest.approx(
            latent_mae_years(PhantomConfig(world=number, latent_sd_years=5.0))
        )


@pytest.mark.parametrize("number", range(9))
def test_uptake_never_tells_more_than_the_latent_age(number: int) -> None:
    """And worlds are such that a reader can do something."""
    found = limits(PhantomConfig(world=number))
    assert 1.02 * found.latent < found.regional < 5.0
    assert min(found.women, found.men) <= found.regional <= max(found.women, found.men)


@pytest.mark.parametrize("number", [0, 7])
def test_what_lies_in_the_field_is_what_the_picture_shows(number: int) -> None:
    """Against landmarks of whole scans; in world 7 one scan in eight has no feet."""
    config = PhantomConfig(world=number)
    cut = [k for k in range(200) if visit(k, 3, config).pose.sole_z < 0]
    seen = in_field(config, 3, 3 + max(cut[:3], default=0))
    for k in (0, 1, 2, *cut[:3]):
        scan = make(k, seed=3, config=config)
        rows, columns = scan.views[0].counts.shape
        places = [scan.landmarks[name] for name in skeleton().names]
        expected = [0 < column < columns and 0 < row < rows for column, row in places]
        assert seen[k].tolist() == expected
    assert len(cut) / 200 == pytest.approx(world(number).feet_cut, abs=0.08)


def test_foci_alone_tell_what_their_number_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """World 0 without ageing bones: people are guessed at the median of those with as many foci."""
    still = tuple(replace(effect, per_20_years=0.0, women=0.0) for effect in World().effects)
    monkeypatch.setattr("bae.phantom.limits.world", lambda _: replace(World(), effects=still))
    # another latent noise, since limits are kept by the settings
    found = limits(PhantomConfig(latent_sd_years=2.7)).regional
    rng = np.random.default_rng(0)
    age = rng.uniform(40, 80, 400_000)
    latent = age + 2.7 * rng.standard_normal(age.size)
    number = rng.poisson(0.6 * 2 ** ((latent - 40) / 11))
    groups = [age[number == n] for n in np.unique(number)]
    error = sum(np.abs(group - np.median(group)).sum() for group in groups) / age.size
    assert found == pytest.approx(error, abs=0.08)
