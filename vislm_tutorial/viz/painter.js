// A mask painted by hand over a small picture; painter.py is the other half.
// It travels as run lengths, row by row: so many pixels unpainted, painted, unpainted, ...

const SIDE = 640; // canvas pixels across, twice its 320 CSS pixels: sharp on phones too
const HELP = "Drag to paint. Keys: arrows move the brush (with Shift, farther), "
  + "Space paints, Delete erases.";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STYLE = `
.vislm-mask-painter{box-sizing:border-box;width:344px;max-width:100%;padding:12px;border-radius:8px;
  background:#fff;color:#1a1a1a;color-scheme:light;font:15px/1.4 system-ui,sans-serif}
.vislm-mask-painter canvas{display:block;width:320px;max-width:100%;height:auto;cursor:crosshair;
  touch-action:none;user-select:none;-webkit-user-select:none}
.vislm-mask-painter :focus-visible{outline:3px solid #d55e00;outline-offset:2px}
.vislm-mask-painter div,.vislm-mask-painter label{display:flex;flex:1;gap:8px;align-items:center}
.vislm-mask-painter div{flex-wrap:wrap;margin:8px 0}
.vislm-mask-painter input{flex:1;width:0;min-width:72px;height:44px;margin:0;accent-color:#1a1a1a}
.vislm-mask-painter button{min-height:44px;margin:0;padding:6px 14px;border:1px solid #1a1a1a;
  border-radius:6px;background:#fff;color:#1a1a1a;font:inherit;cursor:pointer}
.vislm-mask-painter button[aria-pressed=true]{background:#1a1a1a;color:#fff}
.vislm-mask-painter p{margin:4px 0 0;font-size:14px}
.vislm-mask-painter .help{font-size:13px;color:#555}`;

function decode(runs, count) {
  const cells = new Uint8Array(count);
  let start = 0;
  runs.forEach((length, i) => cells.fill(i % 2, start, (start += length)));
  return cells;
}

function encode(cells) {
  const runs = [0];
  cells.forEach((cell, i) => {
    if (cell !== (i ? cells[i - 1] : 0)) runs.push(0);
    runs[runs.length - 1] += 1;
  });
  return runs;
}

function render({ model, el }) {
  // The attribute keeps away JupyterLab's shortcuts, which use the same keys.
  el.innerHTML = `<style>${STYLE}</style>
    <section class="vislm-mask-painter" data-lm-suppress-shortcuts="true">
      <canvas tabindex="0" role="application"></canvas>
      <div><label>Brush <input type="range" min="1"></label>
        <button type="button" aria-pressed="false">Erase</button>
        <button type="button">Clear</button></div>
      <p class="status" aria-live="polite"></p><p class="help" aria-hidden="true">${HELP}</p>
    </section>`;
  const find = (selector) => el.querySelector(selector);
  const root = find("section"), canvas = find("canvas"), slider = find("input");
  const eraser = find("button"), clear = find("button + button");
  const [height, width] = model.get("shape"), scale = Math.ceil(SIDE / width);
  const context = canvas.getContext("2d"), picture = new Image();
  const brush = { x: width / 2, y: height / 2, hovers: false }; // in pixels of the picture
  let cells, frame;

  root.setAttribute("aria-label", model.get("label"));
  canvas.setAttribute("aria-label", `${model.get("label")}. ${HELP}`);
  [canvas.width, canvas.height] = [width * scale, height * scale];
  slider.max = Math.min(width, height);

  const at = (x, y) => x >= 0 && x < width && cells[y * width + x] === 1;
  // The brush covers whole pixels: an odd one lies around a pixel, an even one around a corner.
  const corner = (place) => Math.floor(place - (model.get("brush") - 1) / 2);
  const stamp = (value) => {
    const size = model.get("brush"), left = corner(brush.x), top = corner(brush.y);
    for (let y = Math.max(top, 0); y < Math.min(top + size, height); y++)
      for (let x = Math.max(left, 0); x < Math.min(left + size, width); x++)
        if (Math.hypot(x - left + 0.5 - size / 2, y - top + 0.5 - size / 2) <= size / 2)
          cells[y * width + x] = value;
  };
  const outline = (path) => [["#fff", 6], ["#1a1a1a", 2.5]].forEach(([tone, thickness]) => {
    [context.strokeStyle, context.lineWidth, context.lineJoin] = [tone, thickness, "round"];
    context.stroke(path);
  });
  const paint = () => {
    const inside = new Path2D(), edge = new Path2D(), ring = new Path2D();
    for (let y = 0; y <= height; y++) for (let x = 0; x <= width; x++) {
      if (at(x, y)) inside.rect(x * scale, y * scale, scale, scale);
      if (at(x, y) !== at(x - 1, y)) edge.rect(x * scale, y * scale, 0, scale);
      if (at(x, y) !== at(x, y - 1)) edge.rect(x * scale, y * scale, scale, 0);
    }
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    context.save(); // stripes, for a plain tint would be lost on a shape of its own colour
    context.clip(inside);
    for (let x = -canvas.height, i = 0; x < canvas.width; x += 8, i++) {
      context.fillStyle = i % 2 ? "rgb(255 255 255 / 0.6)" : "rgb(200 0 110 / 0.6)";
      context.fill(new Path2D(`M${x} ${canvas.height}l8 0L${x + canvas.height + 8} 0l-8 0`));
    }
    context.restore();
    outline(edge);
    if (!brush.hovers && !root.matches(":focus-within")) return;
    const radius = model.get("brush") / 2;
    const middle = [brush.x, brush.y].map((place) => (corner(place) + radius) * scale);
    ring.arc(...middle, radius * scale, 0, 2 * Math.PI);
    outline(ring);
  };
  const draw = () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(paint);
  };
  const say = (start = "") => {
    const count = cells.reduce((sum, cell) => sum + cell, 0);
    find(".status").textContent = `${start}${count} of ${width * height} painted.`;
  };
  const send = () => {
    model.set("runs", encode(cells));
    model.save_changes();
  };
  const receive = () => {
    cells = decode(model.get("runs"), width * height);
    draw();
    say();
  };
  const resize = () => {
    slider.value = model.get("brush");
    draw();
  };
  const erases = () => eraser.getAttribute("aria-pressed") === "true";

  const follow = (event, paints) => {
    if (!event.isPrimary) return; // a second finger
    const box = canvas.getBoundingClientRect(), { x, y } = brush;
    const dx = ((event.clientX - box.left) * width) / box.width - x;
    const dy = ((event.clientY - box.top) * height) / box.height - y;
    // Paint from where the brush was to the pointer: a fast one skips pixels on its way.
    const steps = Math.ceil(Math.hypot(dx, dy)) || 1;
    for (let i = 0; i <= steps; i++) {
      [brush.x, brush.y] = [x + (dx * i) / steps, y + (dy * i) / steps];
      if (paints) stamp(erases() ? 0 : 1);
    }
    brush.hovers = true;
    draw();
  };
  canvas.addEventListener("pointermove", (event) =>
    follow(event, canvas.hasPointerCapture(event.pointerId)));
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId); // the stroke goes on beyond the picture's edge
    follow(event, false);
    follow(event, true);
  });
  canvas.addEventListener("pointerleave", () => {
    brush.hovers = false;
    draw();
  });
  canvas.addEventListener("lostpointercapture", send); // the pointer is up, or was taken away
  canvas.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key], paints = event.key === " ";
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (!arrow && !paints && !["Delete", "Backspace"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    const step = event.shiftKey ? model.get("brush") : 1, [dx, dy] = arrow || [0, 0];
    brush.x = Math.min(Math.max(Math.floor(brush.x) + dx * step, 0), width - 1);
    brush.y = Math.min(Math.max(Math.floor(brush.y) + dy * step, 0), height - 1);
    if (!arrow) {
      stamp(paints && !erases() ? 1 : 0);
      send();
    }
    draw();
    say(`Column ${brush.x + 1}, row ${brush.y + 1}. `);
  });
  eraser.addEventListener("click", () => eraser.setAttribute("aria-pressed", !erases()));
  clear.addEventListener("click", () => {
    cells.fill(0);
    send();
  });
  slider.addEventListener("input", () => {
    model.set("brush", Number(slider.value));
    model.save_changes();
  });
  root.addEventListener("focusin", draw);
  root.addEventListener("focusout", draw);
  model.on("change:runs", receive);
  model.on("change:brush", resize);
  picture.onload = draw;
  picture.src = model.get("picture");
  receive();
  resize();
}

export default { render };
