"""Caption in, picture out: encoder, fusion and generator behind diffusers' pipeline interface."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import (
    DiffusionPipeline,
    ImagePipelineOutput,
    ModelMixin,
    SchedulerMixin,
)
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from torch import Tensor

from . import registry
from ._drawing import (
    at_least_one,
    check_number,
    check_output_type,
    checked_prompts,
    checked_settings,
    chosen_scheduler,
    converted,
    stochastic_scheduler,
)
from .chapter_weights import find_chapter_weights
from .encoders import TextEncoder, load_encoder

# diffusers loads a pipeline's parts only from modules that are imported already; with this
# function come those of all fusions.
from .fusion import build_fusion  # noqa: F401
from .generators import FlowGenerator, Generator, as_generator
from .tuning import load_learned, save_learned
from .types import Condition, TimedCondition

ENCODER = "encoder"  # folder of what a pipeline's encoder was taught
SHARD_SIZE = "6MB"  # of exported weights, so that every file is easy to host and to review


class VisLMPipeline(DiffusionPipeline):
    """Draws captions. Made by `from_bundled`, `from_pretrained` or `from_run`.

    The encoder's own weights are not saved with a pipeline: they are found by name (see
    `registry`), and their fingerprint tells whether they are the ones that it was trained with.
    What an encoder was taught is saved (see `tuning`), and attached to those when it is loaded.

    Args:
        fusion: TextStates -> Condition.
        backbone: the generator's network (`Generator.network`): a flow's velocity, say.
        scheduler: of a flow, a flow-matching scheduler of diffusers; `pipe.scheduler = ...`
            replaces it. None: the generator is no flow.
        autoencoder: of the latents or codes; None: the backbone draws pixels.
        encoder: the language model; None: loaded from the four settings below.
        encoder_name, encoder_layers, encoder_max_length: as in `encoders.load_encoder`.
        encoder_fingerprint: of the encoder in training; "": not known.
        guidance_scale, num_inference_steps: what a call takes unless told otherwise; None: the
            family's own. A student of few steps brings its own (`training.few_steps`).

    Raises:
        ValueError: if the encoder's states do not fit the fusion.
        registry.AssetError: if the encoder is not on this machine; says how to get it.
    """

    _optional_components = ["autoencoder", "scheduler"]

    def __init__(
        self,
        fusion: ModelMixin,
        backbone: ModelMixin,
        scheduler: SchedulerMixin | None = None,
        autoencoder: ModelMixin | None = None,
        encoder: TextEncoder | None = None,
        encoder_name: str = "minilm",
        encoder_layers: str | int = "mean",
        encoder_max_length: int = 64,
        encoder_fingerprint: str = "",
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
    ):
        super().__init__()
        if encoder is None:
            encoder = load_encoder(encoder_name, encoder_layers, encoder_max_length)
        _check_encoder(encoder, fusion.config.states_width, encoder_fingerprint)
        modules = {"fusion": fusion, "backbone": backbone, "autoencoder": autoencoder}
        for module in modules.values():
            if module is not None:
                module.eval().requires_grad_(False)
        self.register_modules(**modules, scheduler=scheduler)
        self.register_to_config(
            encoder_name=encoder.name,
            encoder_layers=encoder.layers,
            encoder_max_length=encoder.max_length,
            encoder_fingerprint=encoder_fingerprint or encoder.fingerprint,
        )
        own = {"guidance_scale": guidance_scale, "num_inference_steps": num_inference_steps}
        self._own_settings = {name: value for name, value in own.items() if value is not None}
        self.register_to_config(**self._own_settings)
        self.encoder = encoder
        self.set_progress_bar_config(disable=None, leave=False)  # None: only on a terminal

    @classmethod
    def from_bundled(
        cls, name: str = "scenes", *, allow_network: bool = False, **kwargs
    ) -> VisLMPipeline:
        """The pipeline that the package ships, coloured shapes at 64 px, or one of a chapter.

        Args:
            name: "scenes", or as in `chapter_weights.weights_table`: "image_gpt", say.
            allow_network: fetch a chapter's weights where there is no checkout to have them.
            kwargs: as for `from_pretrained`.

        Raises:
            ValueError: if there is none of that name.
            registry.AssetError: if it, or its encoder, is not on this machine; says what to do.
        """
        from .training.autoencoding import BUNDLED, load_autoencoder

        if name == "scenes":
            folder = registry.find("scenes-weights")
        else:
            folder = find_chapter_weights(name, allow_network)
            parts = cls.load_config(folder)
            if parts.get("autoencoder", (None,))[0] and not (folder / "autoencoder").is_dir():
                # It draws behind the shipped one, of which a repository needs no second copy.
                kwargs.setdefault("autoencoder", load_autoencoder(BUNDLED))
        return cls.from_pretrained(folder, allow_network=allow_network, **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        allow_network: bool = False,
        encoder: TextEncoder | None = None,
        **kwargs,
    ) -> VisLMPipeline:
        """A pipeline from a folder that `save_pretrained` wrote, or from the hub.

        Args:
            folder: the folder, or a hub id "<owner>/<name>".
            allow_network: fetch what is not on this machine; otherwise nothing is tried.
            encoder: one that is loaded already; not asked for if the pipeline's was taught.
            kwargs: as for diffusers; `torch_dtype`, or `dtype`, is a torch.dtype (float32).

        Raises:
            FileNotFoundError: if there is no such pipeline.
            ValueError: if it is a pipeline of another kind, or `encoder` was taught.
            registry.AssetError: if its encoder is not on this machine; says how to get it.
        """
        kwargs = {"local_files_only": not allow_network, "use_safetensors": True} | kwargs
        # Which of the two names diffusers takes depends on its version: it is given neither.
        dtype = kwargs.pop("torch_dtype", None) or kwargs.pop("dtype", None) or torch.float32
        source = str(Path(folder).expanduser())
        config = cls._read_config(source, kwargs)
        taught = _taught(source, kwargs)
        if not taught:
            _check_untaught(encoder)
        if encoder is None or taught:
            names = ("encoder_name", "encoder_layers", "encoder_max_length")
            encoder = load_encoder(*(config[name] for name in names), allow_network=allow_network)
        if taught:
            load_learned(encoder, taught)
        with _quiet_diffusers():
            return super().from_pretrained(source, encoder=encoder, **kwargs).to(dtype)

    @classmethod
    def from_run(cls, run_dir: str | Path, *, encoder: TextEncoder | None = None) -> VisLMPipeline:
        """What a run of a recipe has learned so far: its newest averaged weights.

        Args:
            run_dir: the folder of `training.recipe.train_recipe`; the run may still be going on.
            encoder: one that is loaded already; not asked for if the run trained its own.

        Raises:
            FileNotFoundError: if there is no run, or it has saved nothing yet.
            ValueError: if `encoder` was taught by something else.
            registry.AssetError: if its encoder is not on this machine; says how to get it.
        """
        from .training.autoencoding import load_autoencoder
        from .training.runs import run_recipe, run_weights
        from .training.text_to_image import build_model, load_weights

        recipe = run_recipe(run_dir)
        autoencoder = load_autoencoder(run_dir) if recipe.autoencoder is not None else None
        weights, _ = run_weights(run_dir)
        if not recipe.tuning:
            _check_untaught(encoder)
        if encoder is None or recipe.tuning:  # one that was taught is the run's own
            encoder = load_encoder(recipe.encoder.name, recipe.encoder.layers)
        model = build_model(recipe, encoder, autoencoder)
        if recipe.freeze:
            load_weights(model, recipe.weights_from, recipe.freeze)
        model.load_state_dict(weights)
        is_flow = isinstance(model.generator, FlowGenerator)
        scheduler = stochastic_scheduler() if is_flow else None
        return cls(model.fusion, model.generator.network, scheduler, autoencoder, encoder)

    @property
    def generator(self) -> Generator:
        """The generator that draws, behind its autoencoder if it has one."""
        generator = as_generator(self.backbone, self.autoencoder)
        if self._own_settings:
            generator.settings = generator.settings | self._own_settings
        return generator

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_images_per_prompt: int = 1,
        scheduler: str | SchedulerMixin | None = None,
        temperature: float | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[VisLMPipeline, int, Tensor, dict], dict] | None = None,
    ) -> ImagePipelineOutput | tuple:
        """Draw captions.

        Args:
            prompt: a caption, or several; "" draws whatever comes. What exceeds the encoder's
                `max_length` tokens is cut off with one warning.
            guidance_scale: w in v = v_empty + w (v_caption - v_empty), 0 or more; 1 asks the
                caption alone, at half the cost. This, steps and temperature: None takes the
                family's own (`pipe.generator.settings`).
            num_inference_steps: of a flow, n; the backbone is called n times, with Heun 2 n - 1.
            generator: of all noise. A list of one an image makes each image independent of which
                others are drawn beside it (up to rounding).
            num_images_per_prompt: they follow each other: all of the first caption, then the next.
            scheduler: "euler", "heun", "stochastic" (part of the noise fresh in each step) or a
                flow-matching scheduler of diffusers, for this call; None: the pipeline's own.
            temperature: of families that draw from distributions of their own: 0 or more.
            output_type: "pil": a list of pictures; "pt": (B, 3, H, W) float in [-1, 1], as
                everywhere in this package (diffusers' pipelines give [0, 1]); "np": (B, H, W, 3)
                float32 in [0, 1].
            return_dict: False gives the tuple `(images,)`.
            callback_on_step_end: of a flow; diffusers' convention: called as
                `callback(pipe, step, timestep, {"latents": x})`; `{"latents": x}` that it returns
                takes the place of x.

        Returns:
            An object with `.images`.

        Raises:
            TypeError, ValueError: for an argument out of its range, or that this family of
                generators does not have; the message says which.
        """
        prompts = checked_prompts(prompt)
        family = self.generator
        asked = {
            "guidance_scale": guidance_scale,
            "num_inference_steps": num_inference_steps,
            "temperature": temperature,
        }
        settings = checked_settings(family, asked)
        each = at_least_one(num_images_per_prompt, "num_images_per_prompt")
        check_number(len(prompts) * each)
        check_output_type(output_type)
        condition, empty = self.encode_prompt(prompts)
        condition = condition[torch.arange(len(prompts)).repeat_interleave(each)]
        if family.guided:
            settings["unconditional"] = empty
        if isinstance(family, FlowGenerator):
            settings["scheduler"] = chosen_scheduler(scheduler, self.scheduler)
            with self._each_step(settings["scheduler"], callback_on_step_end) as on_step:
                images = family.sample(condition, generator=generator, on_step=on_step, **settings)
        elif scheduler is not None or callback_on_step_end is not None:
            raise ValueError(
                f"scheduler and callback_on_step_end are for flows; this pipeline draws with a "
                f"{type(family).__name__}."
            )
        else:
            images = family.sample(condition, generator=generator, **settings)
        images = converted(images, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    @contextmanager
    def _each_step(self, scheduler: SchedulerMixin, callback: Callable | None) -> Iterator:
        """What a sampler is to call after each step: moves the bar on, and asks the callback."""
        with self.progress_bar(total=1) as bar:

            def on_step(number: int, timestep: Tensor, x: Tensor) -> Tensor | None:
                bar.total = len(scheduler.timesteps)
                bar.update()
                if callback is None:
                    return None
                return (callback(self, number, timestep, {"latents": x}) or {}).get("latents")

            yield on_step

    def encode_prompt(
        self, prompts: Sequence[str]
    ) -> tuple[Condition, Condition] | tuple[TimedCondition, TimedCondition]:
        """The conditions of B captions, and that of the empty one (B = 1)."""
        states = self.encoder.encode([*prompts, ""]).to(self._execution_device, self.fusion.dtype)
        condition = self.fusion(states)
        return condition[:-1], condition[-1:]

    def save_pretrained(self, save_directory: str | Path, **kwargs) -> None:
        """As for every diffusers pipeline, without the paths that its parts were loaded from.

        Of the encoder, what it was taught, in `encoder/`.
        """
        folder = Path(save_directory)
        shutil.rmtree(folder / ENCODER, ignore_errors=True)
        if self.encoder.tuning is not None:
            save_learned(self.encoder, folder / ENCODER)
        for older in folder.glob("*/diffusion_pytorch_model*"):  # diffusers mixes old and new parts
            older.unlink()
        super().save_pretrained(str(folder), **kwargs)
        for file in (folder / self.config_name, *folder.glob("*/config.json")):
            config = json.loads(file.read_text(encoding="utf-8"))
            config.pop("_name_or_path", None)
            file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def to(self, *args, **kwargs) -> VisLMPipeline:
        """As for every diffusers pipeline; the encoder moves along, and stays float32."""
        super().to(*args, **kwargs)
        self.encoder.model.to(self.device)
        return self

    @classmethod
    def _read_config(cls, source: str, options: dict) -> dict:
        passed_on = ("cache_dir", "revision", "token", "local_files_only")
        try:
            config = cls.load_config(source, **{k: options[k] for k in passed_on if k in options})
        except OSError as error:
            raise FileNotFoundError(
                f"{source!r} is neither a pipeline's folder (with a {cls.config_name}) nor in the "
                "local hub cache. The folder of a training run opens with from_run; a pipeline "
                "on the hub is fetched with allow_network=True."
            ) from error
        kind = config.get("_class_name")
        if kind not in (cls.__name__, VisLMPipeline.__name__):
            raise ValueError(
                f"{source!r} holds a {kind}; expected a {cls.__name__}. Open it with diffusers' "
                "DiffusionPipeline.from_pretrained."
            )
        return config


def save_bundled(run_dir: str | Path, folder: str | Path) -> Path:
    """Export what a run has learned so far, as the package ships it.

    The pipeline in float16, in files below 6 MB, with the run's recipe, its record (`run.json`)
    and logs beside it; those of the autoencoder lie beside the autoencoder's weights.

    Args:
        run_dir: as for `VisLMPipeline.from_run`.
        folder: is made if need be; older weights in it are replaced, and scores of theirs removed.

    Returns:
        `folder`.
    """
    from .training.recipe import RECIPE_FILE
    from .training.runs import run_weights

    run_dir, folder = Path(run_dir), Path(folder)
    with _quiet_diffusers():
        pipe = VisLMPipeline.from_run(run_dir).to(torch.float16)
    pipe.save_pretrained(folder, max_shard_size=SHARD_SIZE)
    for scores in folder.glob("exact_eval.*"):
        scores.unlink()
    _, record = run_weights(run_dir)
    (folder / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    copies = {
        RECIPE_FILE: RECIPE_FILE,
        "generator/log.jsonl": "log.jsonl",
        "autoencoder/log.jsonl": "autoencoder/log.jsonl",
        "autoencoder/run.json": "autoencoder/run.json",
        "codebook/log.jsonl": "autoencoder/codebook_log.jsonl",
        "codebook/run.json": "autoencoder/codebook_run.json",
    }
    for source, target in copies.items():
        if (run_dir / source).is_file():
            shutil.copyfile(run_dir / source, folder / target)
    return folder


def _taught(source: str, options: dict) -> Path | None:
    """The folder of what a pipeline's encoder was taught; None if it was taught nothing."""
    folder = Path(source)
    if not folder.is_dir():
        passed_on = ("cache_dir", "revision", "token", "local_files_only")
        options = {key: options[key] for key in passed_on if key in options}
        folder = Path(snapshot_download(source, allow_patterns=f"{ENCODER}/*", **options))
    return folder / ENCODER if (folder / ENCODER).is_dir() else None


@contextmanager
def _quiet_diffusers() -> Iterator[None]:
    """Without diffusers' loading bar, and its warnings that a cast was a cast."""
    bar, level = diffusers_logging.is_progress_bar_enabled(), diffusers_logging.get_verbosity()
    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)
        if bar:
            diffusers_logging.enable_progress_bar()


def _check_untaught(encoder: TextEncoder | None) -> None:
    if encoder is not None and encoder.tuning is not None:
        raise ValueError(
            f"{encoder.tuning} is attached to the encoder {encoder.name!r}, but this pipeline was "
            "trained with the states of before. Load the encoder again, or leave it out."
        )


def _check_encoder(encoder: TextEncoder, states_width: int, fingerprint: str) -> None:
    if encoder.width != states_width:
        raise ValueError(
            f"the encoder {encoder.name!r} gives states of width {encoder.width}, but this fusion "
            f"was built for {states_width}. Pass the encoder it was trained with."
        )
    if fingerprint and encoder.fingerprint != fingerprint:
        warnings.warn(
            f"this pipeline was trained with the encoder {fingerprint}, but here it is "
            f"{encoder.fingerprint}; pictures may not follow their captions. Get the tested model "
            "with `vislm models get`.",
            stacklevel=2,
        )
