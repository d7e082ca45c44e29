"""The three models of the demo: different in shape, real in what they compute.

==============  ========  ==========================================  ===================================
model           priority  shape                                       request
==============  ========  ==========================================  ===================================
``anomaly``     1         about a millisecond, tiny, data ages fast   ``{"metric": str, "window_s": s}``
``forecaster``  3         tens of milliseconds of CPU, little memory  ``{"series": str, "horizon": steps}``
``indexer``     4         an index per shard kept in memory           ``{"shard": int, "queries": [str]}``
==============  ========  ==========================================  ===================================

Examples
--------
>>> [model.model_id for model in MODELS.values()]
['anomaly', 'forecaster', 'indexer']
>>> MODELS["indexer"].needs({"shard": 3, "queries": ["warranty"]})
['documents/3']
"""

from __future__ import annotations

from actors.demo.models.anomaly import AnomalyModel
from actors.demo.models.base import DemoModel
from actors.demo.models.forecaster import ForecasterModel
from actors.demo.models.indexer import IndexerModel

#: Every model of the demo by its id, the most urgent first.
MODELS: dict[str, DemoModel] = {model.model_id: model for model in (AnomalyModel(), ForecasterModel(), IndexerModel())}

__all__ = ["MODELS", "AnomalyModel", "DemoModel", "ForecasterModel", "IndexerModel"]
