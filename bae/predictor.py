"""The method without Ray, under the name that notebooks know.

``Predictor.load(model_uri).predict(scans)``; everything else is in ``bae.method.predictor``.
"""

from bae.method.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
