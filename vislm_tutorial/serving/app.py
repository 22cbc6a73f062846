"""A page to try the model in a browser: a Gradio app over the same requests as the service."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from ._extra import missing
from .asking import DrawRequest, Limits, draw, notes
from .collect import CaptionLog, Typed

if TYPE_CHECKING:
    import gradio

    from ..pipeline import VisLMPipeline

EXAMPLES = ("a red circle above a blue square", "three green stars", "a large striped diamond")


def build_app(
    pipe: VisLMPipeline, log: CaptionLog | None = None, limits: Limits | None = None
) -> gradio.Blocks:
    """Caption, guidance, steps, seed, a button, and the pictures.

    Nothing is sent anywhere: Gradio's statistics are switched off, and `launch` without
    `share=True` serves this machine only. One drawing runs at a time; a few may wait.

    Args:
        pipe: draws.
        log: where captions are kept if the user ticks the box; None: there is no box.
        limits: the most that may be asked for.

    Raises:
        ImportError: without the packages of the extra `serving`.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    try:
        import gradio as gr
    except ImportError as error:
        raise missing(error) from error

    limits = limits or Limits()
    settings = pipe.generator.settings

    def answer(caption: str, number: int, guidance: float, steps: int, seed: int, consent: bool):
        if not caption.strip():
            raise gr.Error("The caption is empty; type what you want to see.")
        try:
            request = DrawRequest(
                (caption,),
                int(number),
                steps=int(steps) if "num_inference_steps" in settings else None,
                guidance_scale=float(guidance) if "guidance_scale" in settings else None,
                seed=int(seed),
                limits=limits,
            )
            images = draw(pipe, request)
        except (TypeError, ValueError) as refused:
            raise gr.Error(str(refused)) from refused
        identity = uuid.uuid4().hex
        kept = log is not None and consent and log.append([Typed(caption, identity, request.seed)])
        pictures = [(image, f"seed {s}") for image, s in zip(images, request.seeds, strict=True)]
        said = notes(pipe, request) + (["The caption was kept. Thank you."] if kept else [])
        return pictures, " ".join(said), identity if kept else ""

    def judge(identity: str, right: bool) -> str:
        if not identity:
            return "This caption was not kept, so there is nothing to note."
        log.feedback(identity, right)
        return "Noted. Thank you."

    with gr.Blocks(title="vislm", analytics_enabled=False) as app:
        gr.Markdown("# A caption becomes an image")
        with gr.Row():
            with gr.Column():
                caption = gr.Textbox(label="Caption", max_length=limits.caption_characters)
                number = gr.Slider(1, limits.images_per_caption, 4, step=1, label="Pictures")
                guidance = gr.Slider(
                    0, limits.guidance_scale, settings.get("guidance_scale", 1.0), label="Guidance"
                )
                steps = gr.Slider(
                    1, limits.steps, settings.get("num_inference_steps", 1), step=1, label="Steps"
                )
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=limits.seed)
                consent = gr.Checkbox(
                    False, label="Keep my caption to improve the model", visible=log is not None
                )
                button = gr.Button("Draw", variant="primary")
                gr.Examples([[text] for text in EXAMPLES], caption)
            with gr.Column():
                gallery = gr.Gallery(
                    label="Pictures", columns=2, object_fit="contain", format="png"
                )
                said = gr.Markdown()
                identity = gr.State("")
                with gr.Row(visible=log is not None):
                    right, wrong = gr.Button("As I said"), gr.Button("Not as I said")
        inputs = [caption, number, guidance, steps, seed, consent]
        outputs = [gallery, said, identity]
        button.click(answer, inputs, outputs, api_name="draw", concurrency_limit=1)
        right.click(lambda i: judge(i, True), identity, said, api_name=False)
        wrong.click(lambda i: judge(i, False), identity, said, api_name=False)
    return app.queue(max_size=8)
