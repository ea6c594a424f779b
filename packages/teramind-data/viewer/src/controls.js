// The panel at the side, the scale bar and the keys.

import { fromHex, toHex } from "./colors.js";

const byId = (id) => document.getElementById(id);
/** Lengths of a scale bar, in um. */
const LENGTHS = [1, 2, 5].flatMap((n) => [0.1, 1, 10, 100, 1000, 10000].map((power) => n * power)).sort((a, b) => a - b);

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export class Controls {
  constructor(viewer) {
    this.viewer = viewer;
    const { info } = viewer;
    document.title = `${info.name} · teramind`;
    byId("name").textContent = info.name;
    byId("facts").textContent = facts(info).join("\n");
    byId("section").max = info.sections.length - 1;
    byId("section").oninput = (event) => viewer.section(Number(event.target.value));
    byId("previous").onclick = () => viewer.section(viewer.z - 1);
    byId("next").onclick = () => viewer.section(viewer.z + 1);
    const pictures = info.images.filter((image) => !image.labels);
    byId("image").append(...pictures.map(({ name }) => element("option", { value: name, textContent: name })));
    byId("image").onchange = (event) => viewer.show(event.target.value).catch((error) => viewer.fail(error));
    const labels = info.images.filter((image) => image.labels).map(({ name }) => name);
    byId("overlay").hidden = labels.length === 0;
    byId("labels").append(
      element("option", { value: "", textContent: "none" }),
      ...labels.map((name) => element("option", { value: name, textContent: name })),
    );
    byId("labels").onchange = (event) => viewer.showLabels(event.target.value).catch((error) => viewer.fail(error));
    byId("opacity").oninput = (event) => {
      viewer.opacity = Number(event.target.value);
      viewer.draw();
    };
    byId("add").onchange = (event) => this.add(event.target);
    byId("auto").onclick = () => viewer.auto();
    byId("fit").onclick = () => viewer.fit();
    byId("links").append(
      ...info.images.map(({ path }) => element("li", { textContent: new URL(info.url + path, location.href).href })),
    );
    addEventListener("keydown", (event) => this.key(event));
    this.section();
  }

  key(event) {
    if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const { viewer } = this;
    if (event.key === "ArrowRight") viewer.section(viewer.z + 1);
    else if (event.key === "ArrowLeft") viewer.section(viewer.z - 1);
    else if (event.key === "0") viewer.fit();
    else return;
    event.preventDefault();
  }

  section() {
    const { z, info } = this.viewer;
    byId("section").value = z;
    const { name, z_um: um } = info.sections[z];
    byId("section-name").textContent = `${name}, ${z + 1} of ${info.sections.length}, z ${um} µm`;
  }

  async add(input) {
    const { viewer } = this;
    const wanted = input.value.trim().toLowerCase();
    const name = viewer.image.channels.find((channel) => channel.toLowerCase() === wanted);
    if (!name) return;
    input.value = "";
    if (!(await viewer.addChannel(name))) return;
    viewer.reselect();
    this.channels();
    viewer.draw();
  }

  /** The list of channels shown. */
  channels() {
    const { image, channels } = this.viewer;
    byId("image").value = image.name;
    byId("channels").replaceChildren(...channels.map((channel) => this.channel(channel)));
    const more = image.channels.length > channels.length;
    byId("adding").hidden = !more;
    if (more) {
      const noun = image.name === "expression" ? "gene" : "channel";
      byId("add").placeholder = `Add a ${noun} (${image.channels.length})`;
      byId("add").setAttribute("aria-label", `Add a ${noun}`);
      byId("names").replaceChildren(...image.channels.map((value) => element("option", { value })));
    }
  }

  channel(channel) {
    const { viewer } = this;
    const { image, channels } = viewer;
    const redraw = () => viewer.draw();
    const shown = element("input", { type: "checkbox", checked: channel.visible, ariaLabel: `Show ${channel.name}` });
    shown.onchange = () => {
      channel.visible = shown.checked;
      redraw();
    };
    const color = element("input", { type: "color", value: toHex(channel.color), ariaLabel: `Colour of ${channel.name}` });
    color.oninput = () => {
      channel.color = fromHex(color.value);
      redraw();
    };
    const title = element("div", { className: "row" }, shown, color, element("span", { className: "name", textContent: channel.name }));
    if (image.channels.length > 2 && channels.length > 1) {
      const remove = element("button", { textContent: "×", title: `Remove ${channel.name}`, ariaLabel: `Remove ${channel.name}` });
      remove.onclick = () => {
        channels.splice(channels.indexOf(channel), 1);
        viewer.reselect();
        this.channels();
        redraw();
      };
      title.append(remove);
    }
    const limits = element("span", { className: "limits" });
    const write = () => {
      limits.textContent = channel.limits.map((value) => Number(value.toPrecision(3))).join(" – ");
    };
    const slider = (end, word) => {
      const input = element("input", { type: "range", min: 0, max: channel.top, step: channel.top / 255, ariaLabel: `${word} of ${channel.name}` });
      input.value = channel.limits[end];
      input.oninput = () => {
        channel.limits = channel.limits.with(end, Number(input.value));
        write();
        redraw();
      };
      return input;
    };
    write();
    return element("div", { className: "channel" }, title, element("div", { className: "row" }, slider(0, "Black"), slider(1, "Full"), limits));
  }

  overlay() {
    byId("labels").value = this.viewer.overlay?.image.name ?? "";
  }

  /** A bar of a round length, about a fifth of the picture. */
  scale() {
    const { viewer } = this;
    const um = viewer.info.pixel_size_um / 2 ** viewer.viewState.zoom;
    const most = (byId("view").clientWidth * um) / 4;
    const length = LENGTHS.findLast((value) => value <= most) ?? LENGTHS[0];
    const scale = byId("scale");
    scale.hidden = false;
    scale.querySelector("i").style.width = `${length / um}px`;
    scale.querySelector("span").textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
  }

  warn(lines) {
    const text = lines.slice(0, 4).join(" ");
    const warning = byId("warning");
    if (warning.textContent === text) return;
    warning.textContent = text;
    warning.hidden = text === "";
  }
}

/** The store in a few lines. */
function facts(info) {
  const [height, width] = info.canvas;
  const um = info.pixel_size_um;
  const millimetres = [width, height].map((n) => Number(((n * um) / 1000).toPrecision(3)));
  const lines = [
    `${info.kind} store, ${info.sections.length} section${info.sections.length > 1 ? "s" : ""}`,
    `${width} × ${height} px of ${um} µm (${millimetres.join(" × ")} mm)`,
  ];
  if (info.stains.length > 0) lines.push(`Stains: ${info.stains.join(", ")}`);
  if (info.genes > 0) lines.push(`${info.genes} genes`);
  return lines;
}
