"""A model so small that it trains in seconds, as flags of the training jobs."""

SETTINGS = [
    "localizer.width=48",
    "localizer.height=96",
    "regressor.trunk=small_vgg16",
    "regressor.width=48",
    "regressor.height=64",
    "fit_localizer.epochs=1",
    "fit_regressor.epochs=1",
]
FLAGS = ["--recipe", "small", *(word for setting in SETTINGS for word in ("--set", setting))]
