"""Retrieval of embedding models, clean and under attack."""

from certimetric.deep.retrieval.corruptions import CorruptionResult as CorruptionResult
from certimetric.deep.retrieval.corruptions import evaluate_corruptions as evaluate_corruptions
from certimetric.deep.retrieval.evaluation import RetrievalResult as RetrievalResult
from certimetric.deep.retrieval.evaluation import evaluate_retrieval as evaluate_retrieval
from certimetric.deep.retrieval.index import Index as Index
from certimetric.deep.retrieval.poisoning import AdditionCertificate as AdditionCertificate
from certimetric.deep.retrieval.poisoning import PoisoningResult as PoisoningResult
from certimetric.deep.retrieval.poisoning import certify_additions as certify_additions
from certimetric.deep.retrieval.poisoning import poison_gallery as poison_gallery
from certimetric.deep.retrieval.ranking_evaluation import RankingEvaluation as RankingEvaluation
from certimetric.deep.retrieval.relevance import RelevanceResult as RelevanceResult
from certimetric.deep.retrieval.relevance import evaluate_relevance as evaluate_relevance
from certimetric.deep.retrieval.robustness_score import Budget as Budget
from certimetric.deep.retrieval.robustness_score import ERSResult as ERSResult
from certimetric.deep.retrieval.robustness_score import empirical_robustness_score as empirical_robustness_score
from certimetric.deep.retrieval.smallest_changes import SmallestChanges as SmallestChanges
from certimetric.deep.retrieval.smallest_changes import smallest_changes as smallest_changes
