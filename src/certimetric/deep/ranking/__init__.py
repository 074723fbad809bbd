"""How embeddings are compared and ranked."""

from certimetric.deep.ranking.distances import EmbeddingMetric as EmbeddingMetric
from certimetric.deep.ranking.ranks import items_ahead as items_ahead
from certimetric.deep.ranking.ranks import nearest as nearest
from certimetric.deep.ranking.ranks import relevant_ranks as relevant_ranks
