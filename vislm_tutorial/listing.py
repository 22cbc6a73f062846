"""The source article's listing, repaired: a GPT-2 learns to go on from a caption with a picture.

In the article's order: data, model, training, drawing, start. Page 5.18 sets its lines beside
these. The package does the same at length (`generators.image_gpt`, `training`); here it is once
more so that it can be read in one go.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler
from transformers import GPT2Config, GPT2LMHeadModel

from .encoders import TextEncoder
from .generators.vq import VQAutoencoder

IGNORED = -100  # a label that cross entropy leaves out
WARMUP, CLIP = 0.05, 1.0  # share of the training in which the rate rises; longest gradient


class ImageDataset(Dataset):
    """Captions as a frozen language model's states, pictures as codes; `dataset[rows]` is a batch.

    Args:
        descriptions: N captions.
        images: (N, 3, H, W) in [-1, 1].
        encoder: reads each caption once, here: what is frozen says the same in every epoch.
        codebook: its codes are the article's tags; `decode_codes` is the way back.
    """

    def __init__(
        self,
        descriptions: Sequence[str],
        images: Tensor,
        encoder: TextEncoder,
        codebook: VQAutoencoder,
    ):
        if len(descriptions) != len(images):
            raise ValueError(
                f"{len(descriptions)} captions, {len(images)} pictures; give each its own."
            )
        self.states = encoder.encode(descriptions)  # (N, L, D_lm) and their mask (N, L)
        with torch.no_grad():
            parts = images.split(256)
            codes = [codebook.encode_codes(part.to(codebook.device)) for part in parts]
        self.codes = torch.cat(codes).flatten(1)  # (N, h, w) -> (N, h w)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: list[int]) -> dict[str, Tensor]:
        chosen = torch.tensor(rows, device=self.codes.device)
        states = self.states[chosen]
        return {
            "states": states.encoder_hidden_states,
            "attention_mask": states.encoder_attention_mask,
            "codes": self.codes[chosen],
        }


class DrawingGPT2(nn.Module):
    """transformers' GPT-2 over [caption's states | start | codes]; it says what comes next.

    The first code is said by the start, a learned vector: it stands behind every caption in the
    same way. The caption's own last place would be padding for all but a batch's longest.

    Args:
        states_width: D_lm of the encoder.
        codes: K, what GPT-2 has for a vocabulary.
        cells: codes a picture.
        longest: tokens of the longest caption.
        width, depth, heads: of GPT-2.
    """

    def __init__(
        self,
        states_width: int = 384,
        codes: int = 1024,
        cells: int = 64,
        longest: int = 64,
        width: int = 256,
        depth: int = 4,
        heads: int = 4,
    ):
        super().__init__()
        self.cells = cells
        self.read = nn.Sequential(nn.LayerNorm(states_width), nn.Linear(states_width, width))
        self.start = nn.Parameter(0.02 * torch.randn(width))  # as GPT-2 begins its own
        config = GPT2Config(
            vocab_size=codes,
            n_positions=1 + cells + longest,
            n_embd=width,
            n_layer=depth,
            n_head=heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.gpt2 = GPT2LMHeadModel(config)
        self.gpt2.loss_type = "ForCausalLM"  # else transformers warns that it has to guess

    def forward(self, states: Tensor, attention_mask: Tensor, codes: Tensor, labels=None):
        """transformers' output, with `.loss` if there are labels, else `.logits` alone.

        The logits are (B, L + 1 + n, K); the last n + 1 places say code 0 to code n.

        Args:
            states: (B, L, D_lm) with attention_mask (B, L), False at padding.
            codes: (B, n), the picture so far.
            labels: (B, n), what stands there; the loss is the mean over all B n, in nats.
        """
        (batch, length), written = attention_mask.shape, codes.shape[1]
        start = self.start.expand(batch, 1, -1)
        places = torch.arange(1 + written, device=codes.device)  # start at 0, codes from 1, any L
        words = 1 + self.cells + torch.arange(length, device=codes.device)
        read = attention_mask.new_ones(batch, 1 + written)
        told = torch.full((batch, length + 1), IGNORED, device=codes.device)
        drawn = self.gpt2.transformer.wte(codes)
        return self.gpt2(
            inputs_embeds=torch.cat([self.read(states), start, drawn], dim=1),
            attention_mask=torch.cat([attention_mask, read], dim=1),
            position_ids=torch.cat([words, places])[None],
            labels=None if labels is None else torch.cat([told, labels], dim=1),
            use_cache=False,
        )

    @torch.no_grad()
    def write(
        self,
        states: Tensor,
        attention_mask: Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Codes (B, cells), one after the other; temperature 0 takes the likeliest each time."""
        codes = torch.zeros(len(states), 0, dtype=torch.long, device=states.device)
        for _ in range(self.cells):
            logits = self(states, attention_mask, codes).logits[:, -1]  # (B, K)
            if temperature == 0:
                chosen = logits.argmax(dim=1, keepdim=True)
            else:
                chances = (logits / temperature).softmax(dim=1)
                chosen = torch.multinomial(chances, 1, generator=generator)
            codes = torch.cat([codes, chosen], dim=1)
        return codes


def train(
    model: DrawingGPT2,
    dataset: ImageDataset,
    steps: int,
    batch_size: int = 32,
    lr: float = 1e-3,
    seconds: float = math.inf,
    log_every: int = 10,
    seed: int = 0,
) -> list[dict]:
    """Teach the model to write the data's codes; returns `{"step", "loss", "seconds"}` rows.

    Args:
        steps: updates of the weights, each of one batch.
        lr: where the learning rate peaks; it rises in a twentieth of the time and falls to 0.
        seconds: if the steps would take longer, training ends then, its rate at 0 as planned.
        seed: of the order of the pictures.
    """
    device = next(model.parameters()).device
    rows = RandomSampler(
        dataset, num_samples=steps * batch_size, generator=torch.Generator().manual_seed(seed)
    )
    batches = DataLoader(dataset, sampler=BatchSampler(rows, batch_size, True), batch_size=None)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.1, fused=device.type == "cuda"
    )
    model.train()
    log, start = [], time.monotonic()
    for step, batch in enumerate(batches, start=1):
        done = max(step / steps, (time.monotonic() - start) / seconds)
        for group in optimizer.param_groups:
            group["lr"] = lr * _rate(done)
        loss = model(**batch, labels=batch["codes"]).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        if step % log_every == 0 or step == 1 or done >= 1:
            taken = round(time.monotonic() - start, 2)
            log.append({"step": step, "loss": round(loss.item(), 4), "seconds": taken})
        if done >= 1:
            break
    return log


def _rate(done: float) -> float:
    """The share of the peak rate when `done`, in [0, 1], is over: a short way up, a cosine down."""
    if done < WARMUP:
        return done / WARMUP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - WARMUP) / (1 - WARMUP))))


@torch.no_grad()
def validation_loss(model: DrawingGPT2, dataset: ImageDataset) -> float:
    """Nats a code on a whole data set that was not trained on."""
    model.eval()
    rows = torch.arange(len(dataset)).split(256)
    parts = [(len(part), dataset[part.tolist()]) for part in rows]
    total = sum(n * model(**batch, labels=batch["codes"]).loss.item() for n, batch in parts)
    return total / len(dataset)


@torch.no_grad()
def draw(
    model: DrawingGPT2,
    encoder: TextEncoder,
    codebook: VQAutoencoder,
    captions: Sequence[str],
    seed: int = 0,
    temperature: float = 1.0,
) -> Tensor:
    """A picture a caption: (B, 3, H, W) in [-1, 1], on the CPU."""
    model.eval()
    states = encoder.encode(captions)
    generator = torch.Generator(states.device).manual_seed(seed)
    codes = model.write(
        states.encoder_hidden_states, states.encoder_attention_mask, generator, temperature
    )
    side = math.isqrt(model.cells)
    return codebook.decode_codes(codes.unflatten(1, (side, side))).cpu()


def save(model: DrawingGPT2, path: str | Path) -> None:
    """The weights as one safetensors file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_model(model, str(path))


def load(model: DrawingGPT2, path: str | Path) -> DrawingGPT2:
    """Give `model`, of the same shape, the weights that `save` wrote."""
    load_model(model, str(path))
    return model


def main(
    steps: int = 200, size: int = 1_000, seconds: float = math.inf, **shape: int
) -> tuple[DrawingGPT2, TextEncoder, VQAutoencoder, list[dict]]:
    """Start to end on coloured shapes, on a GPU if there is one: data, model, training.

    Args:
        steps, seconds: as for `train`.
        size: pictures to learn from.
        shape: of `DrawingGPT2`: width, depth, heads.
    """
    from .chapter_weights import find_chapter_weights
    from .encoders import load_encoder
    from .training.datasets import SceneImages, picture_batches

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = load_encoder("minilm", layers="mean", device=device)
    folder = find_chapter_weights("image_gpt", allow_network=True)
    codebook = VQAutoencoder.from_pretrained(folder / "autoencoder").float().to(device).eval()
    scenes = SceneImages(size, seed=0)
    images = torch.cat(list(picture_batches(scenes)))
    dataset = ImageDataset(scenes.captions, images, encoder, codebook)
    torch.manual_seed(0)
    model = DrawingGPT2(encoder.width, codebook.config.codes, **shape).to(device)
    return model, encoder, codebook, train(model, dataset, steps, seconds=seconds)
