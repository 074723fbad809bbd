"""Embedding models, how they are called, and the images that they embed."""

from certimetric.deep.models.calling import as_module as as_module
from certimetric.deep.models.calling import embed as embed
from certimetric.deep.models.calling import frozen as frozen
from certimetric.deep.models.calling import seeded as seeded
from certimetric.deep.models.functions import with_output as with_output
from certimetric.deep.models.images import ImageSet as ImageSet
from certimetric.deep.models.images import Samples as Samples
from certimetric.deep.models.kinds import Kind as Kind
from certimetric.deep.models.kinds import LazyImages as LazyImages
from certimetric.deep.models.network import EmbeddingNetwork as EmbeddingNetwork
from certimetric.deep.models.network import embedding_model as embedding_model
from certimetric.deep.models.orthogonal import GroupSort as GroupSort
from certimetric.deep.models.orthogonal import NormPool2d as NormPool2d
from certimetric.deep.models.orthogonal import UnitBall as UnitBall
from certimetric.deep.models.orthogonal import orthogonal_convolution as orthogonal_convolution
from certimetric.deep.models.orthogonal import orthogonal_linear as orthogonal_linear
from certimetric.deep.models.sources import load_model as load_model
