"""The method without Ray, under the name that notebooks know.

``Predictor.load(model_uri).predict(scans)``; everything else is in ``bae.method.predictor``.
Here with networks that have learned nothing yet:

>>> from bae import phantom, recipes
>>> from bae.archive.dicom.decode import decode
>>> from bae.method.model import Card, Part
>>> from bae.method.networks import Localizer, Regressor
>>> recipe = recipes.recipe("small")
>>> card = Card(recipe=recipe, parts={"regressor": Part(sha256="")})
>>> predictor = Predictor(Localizer(recipe.localizer), Regressor(recipe.regressor), card)
>>> (_, data), *_ = phantom.objects(0)  # a simulated scan
>>> [prediction] = predictor.predict([decode(data)])
>>> [view.view for view in prediction.views], prediction.age_years > 0
(['posterior', 'anterior'], True)
"""

from bae.method.prediction import Prediction
from bae.method.predictor import Predictor

__all__ = ["Prediction", "Predictor"]
