"""Same or not, and who of the enrolled: embedding models that decide by a threshold, clean and under attack."""

from certimetric.deep.verification.certificates import VerificationCertificate as VerificationCertificate
from certimetric.deep.verification.certificates import certify_verification as certify_verification
from certimetric.deep.verification.evaluation import AttackedPairs as AttackedPairs
from certimetric.deep.verification.evaluation import VerificationResult as VerificationResult
from certimetric.deep.verification.evaluation import evaluate_verification as evaluate_verification
from certimetric.deep.verification.identification import IdentificationResult as IdentificationResult
from certimetric.deep.verification.identification import evaluate_identification as evaluate_identification
from certimetric.deep.verification.pair_index import attack_pairs as attack_pairs
from certimetric.deep.verification.trials import SmoothedTrial as SmoothedTrial
from certimetric.deep.verification.trials import attack_smoothed as attack_smoothed
