// Two stores of a place under one slider. Without this script the page shows all stores side by side.
"use strict";
(() => {
  const places = document.getElementById("places");
  if (!places) return;
  const tools = document.getElementById("places-tools");
  const [left, right] = ["places-left", "places-right"].map((id) => document.getElementById(id));
  const outlines = document.getElementById("places-outlines");
  const zooms = [...places.querySelectorAll(".zoom")];

  const layer = (name) => {
    const box = document.createElement("div");
    box.className = `layer ${name}`;
    return box;
  };

  const fill = (box, figure) => {
    box.replaceChildren(...[...figure.querySelectorAll("img")].map((one) => one.cloneNode()));
  };

  for (const zoom of zooms) {
    const slider = document.createElement("div");
    slider.className = "slider";
    const shot = document.createElement("div");
    shot.className = "shot";
    const handle = document.createElement("span");
    handle.className = "handle";
    const range = document.createElement("input");
    Object.assign(range, { type: "range", min: 0, max: 100, step: 0.5, value: 50 });
    const move = () => shot.style.setProperty("--cut", `${range.value}%`);
    range.addEventListener("input", move);
    move();
    shot.append(layer("first"), layer("second"), handle, range);
    const caption = document.createElement("p");
    caption.className = "pair";
    slider.append(shot, caption);
    zoom.append(slider);
  }

  const show = () => {
    for (const zoom of zooms) {
      const figures = [...zoom.querySelectorAll("figure")];
      const [one, other] = [left.value, right.value].map((store) => figures.find((f) => f.dataset.store === store));
      fill(zoom.querySelector(".first"), one);
      fill(zoom.querySelector(".second"), other);
      const words = [one, other].map((figure) => figure.querySelector("figcaption").textContent);
      const sides = words.map((text, i) => {
        const side = document.createElement("span");
        side.textContent = i ? `${text} ▶` : `◀ ${text}`;
        return side;
      });
      zoom.querySelector(".pair").replaceChildren(...sides);
      zoom.querySelector("input[type=range]").setAttribute(
        "aria-label", `How much of ${left.value} is shown, the rest is ${right.value}`);
    }
  };

  const mode = () => {
    const sliding = tools.querySelector("[name=places-mode]:checked").value === "slider";
    places.classList.toggle("sliding", sliding);
    for (const one of [left, right]) one.closest("label").hidden = !sliding;
  };

  tools.hidden = false;
  for (const one of [left, right]) one.addEventListener("change", show);
  for (const one of tools.querySelectorAll("[name=places-mode]")) one.addEventListener("change", mode);
  outlines.addEventListener("change", () => places.classList.toggle("lined", outlines.checked));
  places.classList.toggle("lined", outlines.checked);
  show();
  mode();
})();
