"""A language model joined to a diffusion pipeline that has a text encoder of its own.

    python benchmarks/joining.py teacher -o book/weights/joint_teacher
    python benchmarks/joining.py join -o book/results/joining.json --save book/weights

`teacher` trains a Stable Diffusion in miniature on drawn scenes of one or two shapes: a VAE, then a
U-Net together with a CLIP-like text encoder, whose vocabulary is that of the training captions.
`join` then puts each language model in front of it, by the two stages of `vislm_tutorial.joint`,
and has the parser judge what is drawn: with words the teacher knows, and with synonyms it never
read. A row that is stored is not run again. On a CPU give `--seconds` and `--steps` an hour or so.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vislm_tutorial.data.captions import caption
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import Scene, sample_scene
from vislm_tutorial.diffusion import quiet, training_scheduler
from vislm_tutorial.evaluation import evaluate
from vislm_tutorial.joint import JoinConfig, Joined, join, retrieval, save_joined
from vislm_tutorial.training import TrainingConfig

SIDE = 64
LENGTH = 32  # tokens that the teacher's text encoder reads
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TASKS = ("single_object", "colours", "two_objects", "synonyms")
LANGUAGE_MODELS = ("minilm", "smollm2")


def scenes(n: int, seed: int) -> list[Scene]:
    """Scenes of one or two solid shapes, none of them small."""
    rng = random.Random(seed)

    def plain(scene: Scene) -> Scene:
        objects = tuple(replace(o, fill="solid") for o in scene.objects)
        return replace(scene, objects=objects)

    return [plain(sample_scene(rng, rng.choice((1, 1, 2)))) for _ in range(n)]


class Captioned(Dataset):
    """Scenes with a caption each, for stage 2; with `synonyms`, in words the teacher never read."""

    def __init__(self, n: int, seed: int, synonyms: float) -> None:
        rng = random.Random(seed + 1)
        self.scenes = scenes(n, seed)
        self.captions = [caption(s, rng, synonyms=rng.random() < synonyms) for s in self.scenes]

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitems__(self, indices: list[int]) -> list[dict]:
        images = render([self.scenes[i] for i in indices], SIDE)
        captions = (self.captions[i] for i in indices)
        return [{"image": i, "caption": c} for i, c in zip(images, captions, strict=True)]


def tokenizer_of(captions: list[str]) -> CLIPTokenizer:
    """A byte-pair vocabulary in CLIP's format, learned from the captions."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=[chr(c) for c in range(33, 127)],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    learned = json.loads(learner.to_str())["model"]
    # Letters that never end a word here may end one of a reader's.
    vocab = dict(learned["vocab"])
    for letter in map(chr, range(33, 127)):
        vocab.setdefault(f"{letter}</w>", len(vocab))
    merges = [tuple(pair) for pair in learned["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)


def untrained(captions: list[str]) -> DiffusionPipeline:
    """All parts of the teacher, with fresh weights."""
    torch.manual_seed(0)
    tokenizer = tokenizer_of(captions)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        projection_dim=96,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=SIDE,
    )
    unet = UNet2DConditionModel(
        sample_size=SIDE // 4,
        block_out_channels=(48, 80),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        layers_per_block=1,
        cross_attention_dim=96,
        attention_head_dim=(3, 5),  # despite its name the number of heads
        norm_num_groups=16,
    )
    # beta from 1e-4 to 0.02 leaves no signal at the last step, where drawing starts.
    scheduler = DDIMScheduler(
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )
    return diffusers.StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        scheduler=scheduler,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def updates(
    parameters: list[nn.Parameter], peak: float, seconds: float, loss: Callable[[], Tensor]
) -> Iterator[tuple[int, float]]:
    """AdamW for so many seconds, its rate on half a cosine; yields (step, loss) now and then."""
    fused = DEVICE.type == "cuda"
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.01, fused=fused)
    start, step = time.perf_counter(), 0
    while (done := (time.perf_counter() - start) / seconds) < 1:
        warm = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = peak * warm * (1 + math.cos(math.pi * done)) / 2
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 200 == 0:
            yield step, value.item()
    yield step, value.item()


def train_vae(vae: AutoencoderKL, pictures: Tensor, batch: int, seconds: float) -> None:
    """Squared error and a little KL; then the scale at which latents have mean square 1."""
    vae.to(DEVICE).train()

    def loss() -> Tensor:
        images = pictures[torch.randint(len(pictures), (batch,), device=DEVICE)]
        images = images.float() / 127.5 - 1
        posterior = vae.encode(images).latent_dist
        shown = vae.decode(posterior.sample()).sample
        return (shown.float() - images).square().mean() + 3e-7 * posterior.kl().mean()

    for step, value in updates(list(vae.parameters()), 2e-3, seconds, loss):
        print(f"VAE, step {step}: {value:.4f}", flush=True)
    vae.eval()


@torch.no_grad()
def latents_of(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """(N, 4, h, w) of (N, 3, H, W) bytes, with mean square 1: sets the VAE's scaling_factor."""
    parts = [vae.encode(p.float() / 127.5 - 1).latent_dist.mode() for p in pictures.split(256)]
    latents = torch.cat(parts)
    vae.register_to_config(scaling_factor=latents.square().mean().rsqrt().item())
    return latents * vae.config.scaling_factor


def train_unet(
    pipe: DiffusionPipeline, latents: Tensor, captions: list[str], batch: int, seconds: float
) -> int:
    """U-Net and text encoder together, by the denoising loss; every tenth caption is empty.

    Both end with an average of their weights. Returns the number of steps.
    """
    unet, text = pipe.unet.to(DEVICE).train(), pipe.text_encoder.to(DEVICE).train()
    read = pipe.tokenizer(["", *captions], padding="max_length", truncation=True)["input_ids"]
    ids = torch.tensor(read, device=DEVICE)  # (1 + N, T); row 0 is the empty caption
    scheduler = training_scheduler(pipe)
    parts = nn.ModuleList([unet, text])
    ema = torch.optim.swa_utils.AveragedModel(
        parts, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )

    def loss() -> Tensor:
        rows = torch.randint(len(latents), (batch,), device=DEVICE)
        kept = torch.rand(batch, device=DEVICE) > 0.1
        states = text(ids[(rows + 1) * kept])[0]
        clean, t = latents[rows], torch.randint(1000, (batch,), device=DEVICE)
        noise = torch.randn_like(clean)
        answer = unet(scheduler.add_noise(clean, noise, t), t, states).sample
        return (answer.float() - scheduler.get_velocity(clean, noise, t)).square().mean()

    step = 0
    for step, value in updates(
        list(parts.parameters()), 1e-3, seconds, averaging(loss, ema, parts)
    ):
        print(f"U-Net, step {step}: {value:.4f}", flush=True)
    parts.load_state_dict(ema.module.state_dict())
    parts.eval()
    return step


def averaging(loss: Callable[[], Tensor], ema: nn.Module, parts: nn.Module) -> Callable[[], Tensor]:
    """`loss`, with the average moved towards the weights before each call."""

    def both() -> Tensor:
        ema.update_parameters(parts)
        return loss()

    return both


def teacher(folder: Path, seconds: float, n: int, batch: int) -> None:
    """Train the teacher and save it, float16; a third of the seconds are for the VAE."""
    start = time.perf_counter()
    drawn = scenes(n, seed=0)
    rng = random.Random(1)
    captions = [caption(scene, rng) for scene in drawn]
    with quiet():
        pipe = untrained(captions)
    for part in (pipe.vae, pipe.unet, pipe.text_encoder):
        print(type(part).__name__, f"{sum(p.numel() for p in part.parameters()):,} parameters")
    parts = [render(drawn[i : i + 512], SIDE) for i in range(0, n, 512)]
    pictures = torch.cat([p.add(1).mul(127.5).round().byte() for p in parts]).to(DEVICE)
    print(f"{n:,} scenes in {time.perf_counter() - start:.0f} s", flush=True)
    train_vae(pipe.vae, pictures, min(batch, 256), seconds / 3)
    latents = latents_of(pipe.vae, pictures)
    steps = train_unet(pipe, latents, captions, batch, 2 * seconds / 3)
    with quiet():
        pipe.to(torch.float16).save_pretrained(folder)
    record = {"scenes": n, "batch": batch, "steps": steps, "seconds": round(seconds)} | machine()
    (folder / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{folder}: {time.perf_counter() - start:.0f} s in all")


def machine() -> dict:
    """What this ran on."""
    cuda = DEVICE.type == "cuda"
    return {
        "command": " ".join(["python benchmarks/joining.py", *sys.argv[1:]]),
        "device": torch.cuda.get_device_name()
        if cuda
        else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def scores(joined: Joined, stage: str, n: int) -> dict[str, list[float]]:
    """Task -> [share, low, high] of what the parser finds right."""

    def draw(captions: list[str], seed: int) -> Tensor:
        options = {"num_inference_steps": 20, "guidance_scale": 3.0}
        return joined.draw(captions, stage=stage, seed=1000 * seed, **options)

    found = evaluate(draw, TASKS, n=n).scores
    return {task: [found[task].value, found[task].low, found[task].high] for task in TASKS}


def held_out_retrieval(joined: Joined, captions: list[str], stage: str | None = None) -> float:
    """`retrieval` among captions that were not distilled."""
    return retrieval(joined.condition(captions, stage), joined.condition(captions, "own"))


def losses(run_dir: Path) -> list[list[float]]:
    """[step, loss] of each line of a run's log."""
    rows = map(json.loads, (run_dir / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [[row["step"], row["loss"]] for row in rows if "loss" in row]


def joining(
    name: str, folder: Path, steps: tuple[int, int], n: int, n_scenes: int, saved: Path | None
) -> dict:
    """One language model through both stages, judged after each."""
    start = time.perf_counter()
    config = TrainingConfig(
        steps=steps[0], batch_size=64, learning_rate=1e-3, log_every=max(1, steps[0] // 40)
    )
    config = replace(config, checkpoint_every=0, ema_decay=0.99, compile=False)
    known, new = Captioned(n_scenes, 10, synonyms=0.0), Captioned(n_scenes, 20, synonyms=0.5)
    held = list(dict.fromkeys(Captioned(400, 30, synonyms=0.0).captions))
    held = [said for said in held if said not in set(known.captions)][:64]
    joined = join(folder, name, JoinConfig(), device=DEVICE)
    row: dict = {"held_out_captions": len(held), "retrieval": [held_out_retrieval(joined, held)]}
    row["scores"] = {"own": scores(joined, "own", n)}
    with tempfile.TemporaryDirectory() as run:
        joined.distill(known.captions, config, Path(run) / "1")
        row["distillation"] = losses(Path(run) / "1")
        row["retrieval"].append(held_out_retrieval(joined, held))
        row["scores"]["distilled"] = scores(joined, "distilled", n)
        config = replace(config, steps=steps[1], learning_rate=5e-4)
        joined.fine_tune(new, replace(config, log_every=max(1, steps[1] // 40)), Path(run) / "2")
        row["denoising"] = losses(Path(run) / "2")
        row["scores"]["tuned"] = scores(joined, "tuned", n)
    if saved is not None:
        joined.source = folder.name  # the checkout may lie anywhere
        save_joined(joined, saved / f"joint_{name}")
    count = {"fusion": joined.fusion.parameters(), "U-Net": joined.pipe.unet.parameters()}
    count = {part: sum(p.numel() for p in parameters) for part, parameters in count.items()}
    adapters = (p for k, p in joined.pipe.unet.named_parameters() if "lora_" in k)
    count["adapters"] = sum(p.numel() for p in adapters)
    return row | {"parameters": count, "seconds": round(time.perf_counter() - start)} | machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("teacher", help="train the pipeline that is joined to")
    one.add_argument("-o", type=Path, required=True, help="folder of the pipeline")
    one.add_argument("--seconds", type=float, default=100, help="of training (default 100)")
    one.add_argument("--scenes", type=int, default=30_000)
    one.add_argument("--batch", type=int, default=512)
    two = commands.add_parser("join", help="join language models to it")
    two.add_argument("-o", type=Path, required=True, help="JSON file of the results")
    two.add_argument("--teacher", type=Path, default=Path("book/weights/joint_teacher"))
    two.add_argument("--steps", type=int, nargs=2, default=(1000, 800), help="of stages 1 and 2")
    two.add_argument("--n", type=int, default=100, help="prompts a task (default 100)")
    two.add_argument("--scenes", type=int, default=6000, help="of each stage")
    two.add_argument("--models", nargs="+", default=LANGUAGE_MODELS)
    two.add_argument("--save", type=Path, help="folder that gets each join, as joint_<model>")
    options = parser.parse_args()
    if options.command == "teacher":
        teacher(options.o, options.seconds, options.scenes, options.batch)
        return
    stored = json.loads(options.o.read_text(encoding="utf-8")) if options.o.exists() else {}
    print(f"{'':>8} {'stage':>9}", *(f"{task:>13}" for task in TASKS))
    for name in options.models:
        if name not in stored:
            sizes = (tuple(options.steps), options.n, options.scenes)
            stored[name] = joining(name, options.teacher, *sizes, options.save)
            options.o.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        for stage, found in stored[name]["scores"].items():
            print(f"{name:>8} {stage:>9}", *(f"{found[task][0]:13.2f}" for task in TASKS))


if __name__ == "__main__":
    main()
