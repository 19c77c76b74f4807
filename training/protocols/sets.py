"""The published protocols that can be run: their files, members, constants, and known figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from training.protocols.linear import DecayedEase, LinearBank, LinearSequence
from training.protocols.members import Als, Described, Ease, Friends, Member, Popular, Walk
from training.protocols.network import Shape
from training.protocols.readers import read_lists, read_sequences, read_social
from training.protocols.rerank import Reranking
from training.protocols.spectral import GraphFilter, SpectralEase, UserKnn
from training.protocols.split import Split
from training.protocols.transformer import Recipe, Transformer


@dataclass(frozen=True, slots=True)
class Published:
    """A figure of somebody else's model on the same split."""

    model: str
    source: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ProtocolSet:
    """One public set with its protocol."""

    name: str
    folder: str
    """Folder below the data folder."""
    files: tuple[str, ...]
    read: Callable[[Path], Split]
    protocol: str
    metrics: tuple[str, ...]
    """What the source reports, in its order."""
    cuts: tuple[int, ...]
    """List lengths that the blend is chosen by."""
    members: tuple[Member, ...]
    pool: Mapping[str, int]
    """Best items of these members that the blend is chosen on."""
    published: Sequence[Published] = ()
    goal: Mapping[str, float] = field(default_factory=dict)
    rerank: Reranking | None = None
    """How the best items are ordered anew; the blend's order stays where absent."""
    validation_people: int = 4000
    """Most people that the blend is chosen on."""


_SOCIAL: Final = (
    "SocialLGN's split; every item is ranked, what was trained on is left out; recall over all "
    "test items, NDCG ideal over min(k, test items); chosen on three cuts of 10 % out of train"
)
_LEAVE_ONE_OUT: Final = (
    "leave one out: the last action is the test, the one before it validation, known as input at "
    "the test and never fitted on; every item is ranked, what the person acted on is left out"
)

LASTFM: Final = ProtocolSet(
    name="lastfm",
    folder="lastfm-social",
    files=(
        "train_set.txt", "test_set.txt", "trust.txt", "user_taggedartists.dat",
        "userReindex.json", "itemReindex.json",
    ),
    read=read_social,
    protocol=_SOCIAL + "; tags count where the person's pair with the artist is in train",
    metrics=("recall@10", "ndcg@10", "recall@20", "ndcg@20"),
    cuts=(10, 20),
    members=(
        Als("als", 128, 50.0, 10.0, seeds=3),
        Als("als_small", 32, 30.0, 10.0, seeds=6),
        Ease("ease_friends", 1.5, friends=0.3),
        Friends("friends"),
        Friends("friends_of_friends", hops=2),
        Walk("walk"),
        UserKnn(),
        Described("content"),
        Popular(),
    ),
    pool={"als": 120, "ease_friends": 120, "friends": 40},
    published=(
        Published(
            "SocialLGN", "Liao et al., 2022; quoted second-hand, not checked against the paper",
            {"recall@10": 0.203, "ndcg@10": 0.257},
        ),
    ),
    goal={"recall@10": 0.215, "ndcg@10": 0.270, "recall@20": 0.295, "ndcg@20": 0.300},
)  # fmt: skip

CIAO: Final = ProtocolSet(
    name="ciao",
    folder="ciao-social",
    files=("train_set.txt", "test_set.txt", "trust.txt"),
    read=read_social,
    protocol=_SOCIAL,
    metrics=("recall@10", "ndcg@10", "recall@20", "ndcg@20"),
    cuts=(10, 20),
    members=(
        Als("als", 128, 100.0, 20.0, iterations=12),
        Als("als_small", 32, 30.0, 20.0, seeds=2, iterations=12),
        Ease("ease", 3.0),
        Popular(),
    ),
    pool={"als": 80, "als_small": 50, "ease": 80},
    published=(
        Published(
            "SocialLGN", "Liao et al., 2022; quoted second-hand, not checked against the paper",
            {"recall@10": 0.043, "ndcg@10": 0.044},
        ),
    ),
    goal={"recall@20": 0.068, "ndcg@20": 0.056},
)  # fmt: skip

_BEAUTY_NETWORK: Final = Recipe(
    shape=Shape(dimensions=64, hidden=160, blocks=2, heads=2, window=20, dropout=0.4),
    epochs=30.0,
    tokens=2048,
    sample=1024,
    learning_rate=1e-3,
    left_out=0.1,
    average=0.998,
    attributes=True,
)

BEAUTY: Final = ProtocolSet(
    name="beauty",
    folder="beauty",
    files=("Beauty.txt", "Beauty_item2attributes.json"),
    read=partial(read_sequences, file="Beauty.txt"),
    protocol=_LEAVE_ONE_OUT,
    metrics=("hr@10", "ndcg@10"),
    cuts=(10,),
    members=(
        LinearSequence(),
        Transformer(recipe=_BEAUTY_NETWORK),
        Described("content", decay=0.8, newest=20),
        Popular(),
    ),
    pool={"transformer": 80, "linear_sequence": 80, "content": 40},
    published=(
        Published("eSASRec", "transformer_benchmark", {"hr@10": 0.0928, "ndcg@10": 0.0523}),
        Published(
            "SASRec, sampled softmax", "transformer_benchmark", {"hr@10": 0.0921, "ndcg@10": 0.0531}
        ),
        Published("S3Rec", "Zhou et al., CIKM 2020", {"hr@10": 0.0647, "ndcg@10": 0.0327}),
        Published("SASRec", "as reported by S3Rec", {"hr@10": 0.0605, "ndcg@10": 0.0318}),
    ),
    goal={"hr@10": 0.104, "ndcg@10": 0.064},
)

_ML_1M_NETWORK: Final = Recipe(
    shape=Shape(dimensions=64, hidden=160, blocks=2, heads=2, window=200, dropout=0.15),
    epochs=24.0,
    tokens=2048,
    sample=1024,
    learning_rate=2e-3,
    left_out=0.05,
    average=0.998,
)

ML_1M: Final = ProtocolSet(
    name="ml-1m",
    folder="ml-1m",
    files=("ml-1m.txt",),
    read=partial(read_sequences, file="ml-1m.txt"),
    protocol=_LEAVE_ONE_OUT,
    metrics=("hr@10", "ndcg@10"),
    cuts=(10,),
    members=(
        LinearBank(),
        DecayedEase(),
        Transformer(recipe=_ML_1M_NETWORK),
        Popular(),
    ),
    pool={"transformer": 100, "linear_bank": 100},
    published=(
        Published(
            "SASRec, softmax (RecTools)", "bert4rec_repro", {"hr@10": 0.3058, "ndcg@10": 0.1779}
        ),
        Published("gSASRec", "gSASRec-pytorch", {"hr@10": 0.3003, "ndcg@10": 0.1726}),
        Published("BERT4Rec (RecTools)", "bert4rec_repro", {"hr@10": 0.2921, "ndcg@10": 0.1618}),
        Published("SASRec", "bert4rec_repro", {"hr@10": 0.1993, "ndcg@10": 0.1078}),
    ),
    goal={"hr@10": 0.330, "ndcg@10": 0.195},
)  # fmt: skip

GOWALLA: Final = ProtocolSet(
    name="gowalla",
    folder="gowalla",
    files=("train.txt", "test.txt"),
    read=read_lists,
    protocol=(
        "LightGCN's split; every item is ranked, what was trained on is left out; recall over all "
        "test items, NDCG ideal over min(k, test items); chosen on a fifth of each person's train "
        "items that lie together; earlier versions had looked at this test nine times"
    ),
    metrics=("recall@20", "ndcg@20"),
    cuts=(20,),
    members=(
        GraphFilter(),
        SpectralEase(),
        Als("als", 256, 60.0, 40.0, iterations=8),
        UserKnn(),
    ),
    pool={"filter": 60, "ease": 60, "als": 40, "user_knn": 60},
    published=(
        Published("BSPM-EM", "Choi et al., SIGIR 2023", {"recall@20": 0.1920, "ndcg@20": 0.1597}),
        Published("NESCL", "its repository", {"recall@20": 0.1917, "ndcg@20": 0.1617}),
        Published("GF-CF", "Shen et al., CIKM 2021", {"recall@20": 0.1849, "ndcg@20": 0.1518}),
        Published("LightGCN", "He et al., SIGIR 2020", {"recall@20": 0.1830, "ndcg@20": 0.1554}),
        Published("EASE", "the BARS leaderboard", {"recall@20": 0.1765, "ndcg@20": 0.1467}),
    ),
    goal={"recall@20": 0.200, "ndcg@20": 0.167},
    rerank=Reranking(evidence=True),
    validation_people=20_000,
)

SETS: Final = {each.name: each for each in (BEAUTY, CIAO, GOWALLA, LASTFM, ML_1M)}
