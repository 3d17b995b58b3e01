"""Worlds differ as they should, stay what they were, and world 0 is today's simulation."""

import hashlib
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from scipy import stats

from bae.archive import objects
from bae.errors import UseError
from bae.phantom import PhantomConfig, ageing, lesions, make, pack, write
from bae.phantom import archive as phantom_archive
from bae.phantom.anatomy.skeleton import skeleton
from bae.phantom.people import generator, patient_of, visit
from bae.phantom.world import World, world
from bae.phantom.world.draw import REGIONS, carriers
from bae.phantom.world.words import strongest
from bae.scan import FEMALE, MALE, Scan

WORLDS = [world(number) for number in range(1, 61)]

BEFORE_WORLDS = {
    "scans": "031a664b43150987a44e5d8fde11a55fb260804fda5c661b988b5dca7cdff8d5",
    "truth": "aba206edaa23b92c433dc8604422fb61ae4237aae19f6f6ced666cac8c559907",
    "files": "b8a6287029d65c2ac70d37a71c60f8cacfbf52e22346cf167eeae9646b929f7f",
}
"""SHA-256 of twelve scans as they were made before there were worlds."""

DRAWN = "35d04a9feda09ef6255305f459094cee60b7e811e57499e2ddecbd7bfb2f759c"
"""SHA-256 of what worlds 1 to 20 are; experiments name worlds by their number."""


def test_world_zero_is_the_simulation_that_there_was(tmp_path: Path) -> None:
    """Pixels, truth and files, byte for byte; if files alone differ, a package writes otherwise."""
    config = PhantomConfig(columns=128, rows=512, mistakes=0.2)
    truth = write.write_piece(str(tmp_path), 0, 12, 3, config)
    scans, files = hashlib.sha256(), hashlib.sha256()
    for k in range(12):
        for view in make(k, seed=3, config=config).views:
            scans.update(view.counts.tobytes())
    for path in sorted(tmp_path.rglob("*")):
        if path.is_file():
            files.update(str(path.relative_to(tmp_path)).encode() + path.read_bytes())
    found = {
        "scans": scans.hexdigest(),
        "truth": hashlib.sha256(repr(truth.to_pylist()).encode()).hexdigest(),
        "files": files.hexdigest(),
    }
    assert found == BEFORE_WORLDS


def test_worlds_stay_what_they_were() -> None:
    """A number names the same world for ever: drawn values are plain and rounded."""
    drawn = json.dumps([asdict(world(number)) for number in range(1, 21)])
    assert hashlib.sha256(drawn.encode()).hexdigest() == DRAWN


def test_world_numbers_begin_at_zero() -> None:
    """World 0 is the defaults."""
    assert world(0) == World()
    with pytest.raises(UseError):
        world(-1)


def test_every_three_worlds_show_age_in_all_six_regions() -> None:
    """Two regions each, and fifteen worlds have every pair once."""
    for start in range(1, 60, 3):
        shown = [region for number in range(start, start + 3) for region in carriers(number)]
        assert sorted(shown) == sorted(REGIONS)
    assert len({frozenset(carriers(number)) for number in range(1, 16)}) == 15


def test_the_regions_that_carry_age_do() -> None:
    """Over worlds, their bones change far more than others', in the sex that changes more."""
    strong, weak = [], []
    for assumed in WORLDS:
        changes = {e.name: e for e in assumed.effects}
        for region, names in REGIONS.items():
            found = [
                max(abs(20.0 * changes[name].per_year(60.0, sex)) for sex in (FEMALE, MALE))
                for name in names
            ]
            (strong if region in carriers(assumed.number) else weak).extend(found)
    assert np.median(strong) > 2.5 * np.median(weak)


def test_no_bone_changes_beyond_belief() -> None:
    """At no age faster than stated; knees, shoulders, hands and feet never cool down at 60."""
    for assumed in WORLDS:
        for effect in assumed.effects:
            assert 0.05 <= effect.sd <= 0.4 and 0.0 <= effect.part_sd <= 0.45
            for sex in (FEMALE, MALE):
                for latent in (20.0, 45.0, 60.0, 95.0):
                    assert abs(20.0 * effect.per_year(latent, sex)) <= 0.552
                if effect.name in ("knees", "shoulders", "hands", "feet"):
                    assert 20.0 * effect.per_year(60.0, sex) > -0.01


def test_courses_bend_and_differ_between_the_sexes() -> None:
    """The slope stated is that of the course; women's turns about 50."""
    turned = 0
    for assumed in WORLDS[:20]:
        for effect in assumed.effects:
            for sex in (FEMALE, MALE):
                for latent in (30.0, 52.0, 80.0):
                    steps = [effect.change(latent + step, sex) for step in (-0.01, 0.01)]
                    slope = (steps[1] - steps[0]) / 0.02
                    assert effect.per_year(latent, sex) == pytest.approx(slope, abs=1e-6)
                assert effect.change(60.0, sex) == pytest.approx(effect.base)
            early, late = (effect.per_year(latent, FEMALE) for latent in (35.0, 65.0))
            turned += abs(late - early) > 0.25 * abs(early)
    # most of the way lies within six years of 50
    assert turned > 0.4 * 20 * len(assumed.effects)


def test_people_are_as_the_world_has_them() -> None:
    """Ages normal between the ends, also with repeated visits; the share of women."""
    assert world(4).age_sd_years == 0.0
    config, assumed = PhantomConfig(world=8), world(8)
    seen = [visit(k, 1, config) for k in range(1600)]
    low, high = config.ages
    assert all(20 <= low - 0.01 <= who.age_years <= high + 0.01 <= 95.1 for who in seen)
    for sex, mean in zip((FEMALE, MALE), assumed.mean_age_years, strict=True):
        ends = [(end - mean) / assumed.age_sd_years for end in (low, high)]
        law = stats.truncnorm(*ends, loc=mean, scale=assumed.age_sd_years)
        ages = [who.age_years for who in seen if who.sex == sex]
        assert stats.kstest(ages, law.cdf).statistic < 1.63 / np.sqrt(0.7 * len(ages))
    first = [who.sex == FEMALE for who in seen if patient_of(who.index)[1] == 0]
    assert np.mean(first) == pytest.approx(assumed.women_share, abs=0.05)


def test_joints_have_clocks_of_their_own() -> None:
    """Mean number of foci in each group of joints at 45 and at 80, as stated."""
    clocks = world(9).clocks
    assert len({clock.doubling_years for clock in clocks}) == len(clocks)
    for clock in clocks:
        for latent in (45.0, 80.0):
            counts = [
                len(lesions.degenerative(latent, FEMALE, generator(1, i), (clock,)))
                for i in range(600)
            ]
            mean = clock.expected(latent)
            assert np.mean(counts) == pytest.approx(mean, abs=4.0 * np.sqrt(mean / 600))


def test_worlds_share_no_people_and_no_identifiers() -> None:
    """The same seed and scan: another patient, study and instance, another name in the archive."""
    found = []
    for number in (0, 1, 2):
        config = PhantomConfig(world=number, columns=128, rows=512)
        packed = pack(make(0, config=config), config=config)
        name, data = packed.objects[0]
        ds = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        found.append((name, ds.PatientID, ds.StudyInstanceUID, ds.SOPInstanceUID))
    for same in zip(*found, strict=True):
        assert len(set(same)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 9))
def test_archives_of_every_world_are_read(number: int) -> None:
    """Every object is accepted, with sex, age and both views."""
    config = PhantomConfig(world=number)
    for k in range(6):
        scan = make(k, seed=2, config=config)
        views = []
        for name, data in pack(scan, seed=2, config=config).objects:
            for _, read in objects.scans(name, data):
                assert isinstance(read, Scan), f"{k}: {read}"
                assert set(read.flags) <= {"lossy", "body_short"}
                assert read.sex == scan.sex
                assert read.age_years == pytest.approx(scan.age_years, abs=1.01)
                views += [view.name for view in read.views]
                for view in read.views:
                    made = scan.views[view.name == "posterior"].counts
                    off = np.abs(view.counts.astype(float) - made)
                    assert off.max() == 0 or ("lossy" in read.flags and off.mean() < 2.0)
        assert sorted(views) == ["anterior", "posterior"]


def test_every_effect_of_every_world_moves_bones() -> None:
    """No pattern is void; the region names an archive states are those of effects."""
    effects = world(1).effects
    for effect, members in zip(effects, ageing.effect_parts(effects), strict=True):
        assert members.any(), effect.name
    # a part may age with one effect and with the contrast of all bones
    moved = np.sum(ageing.effect_parts(effects), axis=0)
    assert moved.max() == 2
    assert {name for names in REGIONS.values() for name in names} == {
        effect.name for effect in effects if effect.name != "contrast"
    }
    assert len(moved) == len(skeleton().names)


def test_an_archive_says_which_world_it_is(tmp_path: Path) -> None:
    """Number, values, words and both limits; its reader gets the settings back."""
    config = PhantomConfig(world=5, columns=128, rows=512)
    said = json.loads(phantom_archive.about(3, 1, config))
    assert said["world"]["number"] == 5
    assert said["world"]["values"]["latent_sd_years"] == world(5).latent_sd_years
    assert 1.0 < said["limit_mae_years"] < said["regional_limit_mae_years"] < 5.0
    name, change = strongest(world(5), FEMALE)[0]
    percent = f"{100 * (np.exp(change) - 1):+.0f} %"
    assert said["world"]["most_aged"]["woman"][0].startswith(f"{name} {percent}")
    assert phantom_archive.Cohort(root="x", about=said).config == config
    # an archive of the time before worlds
    del said["config"]["world"]
    assert phantom_archive.Cohort(root="x", about=said).config.world == 0
    truth = write.write_piece(str(tmp_path), 0, 1, 1, config)
    assert "effect_ribs" in truth.column_names
    pq.write_table(truth, tmp_path / "truth.parquet")
