// The stack of sections in space, drawn as teramind_eval.report.sheets draws it: each sheet under an affine map, the
// farthest first.
"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  if (!viewer) return;
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const canvas = viewer.querySelector("canvas");
  const pen = canvas.getContext("2d");
  const pictures = [...viewer.querySelectorAll("img")];
  const field = (name) => viewer.querySelector(`[name=${name}]`);
  const count = data.depths.length;
  const start = { turn: -40, tilt: 22, zoom: 1 };
  const view = { ...start };
  const radians = (degrees) => degrees * Math.PI / 180;

  const rotation = () => {
    const [a, b] = [radians(view.turn), radians(view.tilt)];
    const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    return [[ca, 0, sa], [-sb * sa, cb, sb * ca], [-cb * sa, -sb, cb * ca]];
  };

  const box = (r, scale, width, height, length) => {
    const half = [data.size_um[1] / 2, data.size_um[0] / 2, length / 2];
    const corners = [];
    for (let i = 0; i < 8; i += 1) corners.push([i & 4 ? 1 : -1, i & 2 ? 1 : -1, i & 1 ? 1 : -1].map((s, k) => s * half[k]));
    const seen = corners.map((p) => [0, 1].map((k) => scale * (r[k][0] * p[0] + r[k][1] * p[1] + r[k][2] * p[2])));
    pen.setTransform(1, 0, 0, 1, width / 2, height / 2);
    pen.globalAlpha = 1;
    pen.strokeStyle = "rgb(84,98,114)";
    pen.lineWidth = Math.max(1, devicePixelRatio);
    pen.beginPath();
    for (let i = 0; i < 8; i += 1) {
      for (const bit of [1, 2, 4]) {
        if (i & bit) continue;
        pen.moveTo(...seen[i]);
        pen.lineTo(...seen[i | bit]);
      }
    }
    pen.stroke();
  };

  const draw = () => {
    const width = canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    const height = canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    const layer = data.layers[field("layer").selectedIndex];
    const picture = pictures[field("layer").selectedIndex];
    const [low, high] = [Number(field("first").value), Number(field("last").value)].sort((a, b) => a - b);
    const length = Math.max(...data.depths) - Math.min(...data.depths);
    const [tall, wide] = data.size_um;
    const scale = view.zoom * 0.98 * Math.min(width, height) / Math.hypot(tall, wide, length);
    const r = rotation();
    const shrunk = picture.naturalWidth / (layer.across * layer.columns); // large pages hold smaller pictures
    const [sw, sh] = [layer.columns * shrunk, layer.rows * shrunk];
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, width, height);
    box(r, scale, width, height, length);
    pen.globalAlpha = data.opacity * Number(field("opacity").value) / 50;
    if (pen.globalAlpha > 1) pen.globalAlpha = 1;
    const order = data.depths.map((_, i) => i).filter((i) => i >= low && i <= high);
    order.sort((a, b) => (data.depths[b] - data.depths[a]) * r[2][2]);
    for (const i of order) {
      const z = data.depths[i];
      pen.setTransform(
        scale * r[0][0] * wide / layer.columns, scale * r[1][0] * wide / layer.columns,
        scale * r[0][1] * tall / layer.rows, scale * r[1][1] * tall / layer.rows,
        width / 2 + scale * r[0][2] * z, height / 2 + scale * r[1][2] * z);
      pen.drawImage(picture,
        (i % layer.across) * sw, Math.floor(i / layer.across) * sh, sw, sh,
        -layer.columns / 2, -layer.rows / 2, layer.columns, layer.rows);
    }
    viewer.querySelector("output").textContent =
      `sections ${low + 1}–${high + 1} of ${count}, z ${data.z_um[low]}–${data.z_um[high]} µm; ` +
      `turned ${Math.round(view.turn)}°, tilted ${Math.round(view.tilt)}°`;
    viewer.dataset.drawn = String(order.length);
  };

  const turn = (by, up) => {
    view.turn = ((view.turn + by + 540) % 360) - 180;
    view.tilt = Math.max(-90, Math.min(90, view.tilt + up));
    draw();
  };
  const zoom = (factor) => { view.zoom = Math.max(0.5, Math.min(8, view.zoom * factor)); draw(); };
  const reset = () => { Object.assign(view, start); draw(); };

  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held = [event.clientX, event.clientY];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    turn((event.clientX - held[0]) * 0.4, (event.clientY - held[1]) * 0.4);
    held = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = null; });
  const keys = {
    ArrowLeft: () => turn(-5, 0), ArrowRight: () => turn(5, 0), ArrowUp: () => turn(0, -5), ArrowDown: () => turn(0, 5),
    "+": () => zoom(1.2), "-": () => zoom(1 / 1.2), Home: reset,
  };
  canvas.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (act) { act(); event.preventDefault(); }
  });
  const buttons = { closer: () => zoom(1.2), farther: () => zoom(1 / 1.2), reset };
  for (const [name, act] of Object.entries(buttons)) field(name).addEventListener("click", act);
  for (const name of ["layer", "opacity", "first", "last"]) field(name).addEventListener("input", draw);
  for (const name of ["first", "last"]) field(name).max = count - 1;
  field("first").value = 0;
  field("last").value = count - 1;
  viewer.hidden = false;
  new ResizeObserver(draw).observe(canvas);
  Promise.all(pictures.map((one) => one.decode())).then(draw);
})();
