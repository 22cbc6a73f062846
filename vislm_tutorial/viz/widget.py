"""A small drawing desk for a running notebook: type a caption, press Draw."""

from __future__ import annotations

import warnings
from html import escape

from .html import data_uri


def drawing_widget(pipe, caption: str = "a red circle above a blue square", size: int = 256):
    """Controls for a pipeline: caption, guidance, steps, seed, a button and the picture.

    Only calls that ipywidgets 7 (Colab) and 8 share are used. Whatever goes wrong while drawing is
    written under the button; the notebook goes on.

    Args:
        pipe: a `VisLMPipeline`, or anything called like one:
            `pipe(caption, guidance_scale=, num_inference_steps=, generator=).images`.
        caption: what stands in the box at first.
        size: CSS pixels of the picture's side.

    Returns:
        An `ipywidgets.VBox`; as the last line of a cell it shows itself.

    Raises:
        ImportError: if ipywidgets is not installed.
    """
    try:
        import ipywidgets as widgets
    except ImportError as error:
        raise ImportError(
            "drawing_widget needs ipywidgets; install it with: pip install ipywidgets. "
            "Without it, call pipe('your caption').images[0]."
        ) from error

    from ..generators import FlowGenerator

    start = FlowGenerator.settings
    wide = widgets.Layout(width="100%", max_width="440px")
    labels = {"description_width": "80px"}
    text = widgets.Text(value=caption, description="Caption", layout=wide, style=labels)
    guidance = widgets.FloatSlider(
        value=start["guidance_scale"],
        min=1.0,
        max=10.0,
        step=0.5,
        description="Guidance",
        layout=wide,
        style=labels,
    )
    steps = widgets.IntSlider(
        value=start["num_inference_steps"],
        min=1,
        max=80,
        description="Steps",
        layout=wide,
        style=labels,
    )
    seed = widgets.BoundedIntText(
        value=0, min=0, max=2**31 - 1, description="Seed", layout=wide, style=labels
    )
    button = widgets.Button(description="Draw", button_style="primary")
    message = widgets.HTML()
    picture = widgets.HTML()  # not widgets.Image, which has no alt text

    def on_click(_button) -> None:
        button.disabled = True
        message.value = "Drawing ..."
        try:
            drawn, notes = _draw(pipe, text.value, guidance.value, steps.value, seed.value)
        except Exception as error:  # shown where the reader looks, instead of a trace in the log
            message.value = f"<b>Not drawn.</b> {escape(str(error) or type(error).__name__)}"
        else:
            picture.value = (
                f'<img src="{data_uri(drawn)}" alt="{escape(text.value)}" '
                f'style="width:{size}px;max-width:100%">'
            )
            settings = f"guidance {guidance.value:g}, {steps.value} steps, seed {seed.value}"
            message.value = escape(" ".join([f"“{text.value}” with {settings}.", *notes]))
        finally:
            button.disabled = False

    button.on_click(on_click)
    return widgets.VBox([text, guidance, steps, seed, button, message, picture])


def _draw(pipe, caption: str, guidance: float, steps: int, seed: int):
    """The picture, as PIL has it, and a list of what the pipeline warned of."""
    import torch

    if not caption.strip():
        raise ValueError("The caption is empty; type what you want to see.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        result = pipe(
            caption,
            guidance_scale=guidance,
            num_inference_steps=steps,
            generator=torch.Generator("cpu").manual_seed(seed),
        )
    notes = [f"Note: {w.message}" for w in caught if w.category is UserWarning]
    return result.images[0], notes
