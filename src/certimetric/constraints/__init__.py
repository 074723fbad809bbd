"""From labels to pairs, triplets, quadruplets, chunklets, target neighbours and impostors."""

from certimetric.constraints.chunklets import random_chunklets
from certimetric.constraints.class_scatter import ClassScatter
from certimetric.constraints.neighbors import nearest_of_other_classes, nearest_triplets, target_neighbors
from certimetric.constraints.pairs import random_pairs, random_quadruplets
from certimetric.constraints.scatter import PairScatter
from certimetric.constraints.triplets import random_triplets, triplets_of_pairs, triplets_of_quadruplets

__all__ = [
    "ClassScatter",
    "PairScatter",
    "nearest_of_other_classes",
    "nearest_triplets",
    "random_chunklets",
    "random_pairs",
    "random_quadruplets",
    "random_triplets",
    "target_neighbors",
    "triplets_of_pairs",
    "triplets_of_quadruplets",
]
