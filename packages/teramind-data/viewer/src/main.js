// The page: state, deck.gl and the controls, from view.json which the server writes about its store.

import { Deck, OrthographicView } from "@deck.gl/core";

import { channelColor, limitsOf } from "./colors.js";
import { coarser, imageLayer, labelLayer } from "./layers.js";
import { Controls } from "./controls.js";
import { Reading, openPyramid, openStore } from "./source.js";

/** Viv draws at most ten channels; more than six colours nobody tells apart. */
const MOST_CHANNELS = 6;
const body = document.body;
const byId = (id) => document.getElementById(id);

class Viewer {
  constructor(info) {
    this.info = info;
    this.reading = new Reading();
    this.store = openStore(new URL(info.url, location.href).href, this.reading);
    this.pyramids = new Map();
    const wanted = new URLSearchParams(location.hash.slice(1));
    this.z = clamp(Number(wanted.get("z") ?? Math.floor(info.sections.length / 2)), 0, info.sections.length - 1);
    this.opacity = 0.35;
    this.settings = new Map();
    this.overlay = null;
    this.cursor = null;
    this.viewState = this.whole();
    for (const [key, at] of [["x", 0], ["y", 1]]) {
      if (wanted.has(key)) this.viewState.target[at] = Number(wanted.get(key)) || 0;
    }
    if (wanted.has("zoom")) this.viewState.zoom = Number(wanted.get("zoom")) || 0;
    this.controls = new Controls(this);
    this.deck = new Deck({
      parent: byId("view"),
      views: new OrthographicView({ id: "plane", controller: { doubleClickZoom: true, inertia: true } }),
      viewState: this.viewState,
      onViewStateChange: ({ viewState }) => this.move(viewState),
      onHover: ({ coordinate }) => this.hover(coordinate),
      onError: (error) => this.fail(error),
      getCursor: ({ isDragging }) => (isDragging ? "grabbing" : "crosshair"),
      layers: [],
    });
    this.reading.onChange = () => this.progress();
    this.wanted = wanted;
  }

  async start() {
    const name = this.wanted.get("image");
    const image = this.info.images.find((item) => item.name === name && !item.labels) ?? this.info.images[0];
    const overlay = this.info.images.find((item) => item.labels && item.name === this.wanted.get("labels"));
    const channels = this.wanted.get("channels")?.split(",").filter((item) => image.channels.includes(item));
    await this.show(image.name, channels);
    if (overlay) await this.showLabels(overlay.name);
    addEventListener("resize", () => this.draw());
    // An address typed over ours; our own changes make no such event.
    addEventListener("hashchange", () => location.reload());
  }

  // ---- what is shown

  async pyramid(image) {
    if (!this.pyramids.has(image.name)) {
      this.pyramids.set(image.name, await openPyramid(this.store, image, this.reading));
    }
    return this.pyramids.get(image.name);
  }

  /** Show an image, with the channels named or, the first time, a sensible choice. */
  async show(name, names) {
    const image = this.info.images.find((item) => item.name === name);
    const pyramid = await this.pyramid(image);
    this.image = image;
    if (names?.length || !this.settings.has(name)) {
      const chosen = names?.length ? names : await this.firstChannels(image, pyramid);
      this.settings.set(name, []);
      for (const channel of chosen.slice(0, MOST_CHANNELS)) await this.addChannel(channel);
    }
    this.reselect();
    this.controls.channels();
    this.draw();
  }

  /** Stains: all. Genes: the three with the most molecules in this section. Maps: the last, the whole window. */
  async firstChannels(image, pyramid) {
    if (image.channels.length <= 2) return image.channels;
    if (image.reduce !== "sum") return image.channels.slice(-1);
    const totals = await Promise.all(
      image.channels.map(async (channel, c) => {
        const { data } = await pyramid.at(-1).getRaster({ selection: { c, z: this.z } });
        return { channel, total: data.reduce((sum, value) => sum + value, 0) };
      }),
    );
    const most = totals.sort((a, b) => b.total - a.total).slice(0, 3);
    return most.filter(({ total }, rank) => rank === 0 || total > 0).map(({ channel }) => channel);
  }

  get channels() {
    return this.settings.get(this.image.name);
  }

  async addChannel(name) {
    const { image, channels } = this;
    const c = image.channels.indexOf(name);
    if (c < 0 || channels.some((channel) => channel.c === c) || channels.length >= MOST_CHANNELS) return false;
    const taken = channels.map((channel) => String(channel.color));
    let position = channels.length;
    while (taken.includes(String(channelColor(name, position))) && position < 2 * MOST_CHANNELS) position += 1;
    const top = image.dtype === "uint8" && image.reduce === "mean" ? 255 : 1;
    const channel = { c, name, visible: true, color: channelColor(name, position), limits: [0, top], top };
    channels.push(channel);
    // Stains fill 0..255 by their making. Counts and maps have no such scale.
    if (top !== 255) {
      const coarsest = (await this.pyramid(image)).at(-1);
      const { data } = await coarsest.getRaster({ selection: { c, z: this.z } });
      channel.limits = limitsOf(data, top);
      channel.top = Math.max(channel.limits[1] * 4, Number.MIN_VALUE);
    }
    return true;
  }

  /** After channels came or went, or the section changed: what Viv should fetch. */
  reselect() {
    this.selections = this.channels.map(({ c }) => ({ c, z: this.z }));
  }

  async showLabels(name) {
    const image = this.info.images.find((item) => item.labels && item.name === name);
    this.overlay = image ? { image, pyramid: await this.pyramid(image) } : null;
    this.controls.overlay();
    this.draw();
  }

  section(z) {
    this.z = clamp(z, 0, this.info.sections.length - 1);
    this.reselect();
    this.controls.section();
    this.draw();
  }

  /** Contrast limits from the pixels in view, at the level that is drawn. */
  async auto() {
    const { source, step } = await this.drawn();
    const [x0, y0, x1, y1] = this.bounds().map((value) => Math.floor(value / step));
    for (const channel of this.channels) {
      const values = [];
      for (let y = Math.max(0, y0); y < Math.min(source.height, y1); y += 1) {
        for (let x = Math.max(0, x0); x < Math.min(source.width, x1); x += 1) {
          values.push(source.peek({ c: channel.c, z: this.z }, y, x) ?? 0);
        }
      }
      channel.limits = limitsOf(values, channel.top);
      channel.top = Math.max(channel.top, channel.limits[1]);
    }
    this.controls.channels();
    this.draw();
  }

  // ---- drawing

  /** The section as a whole, in the space that the page has. */
  whole() {
    const [height, width] = this.info.canvas;
    const { clientWidth, clientHeight } = byId("view");
    const zoom = Math.log2(Math.min(clientWidth / width, clientHeight / height)) - 0.08;
    return { target: [width / 2, height / 2, 0], zoom, minZoom: zoom - 2, maxZoom: 6 };
  }

  move(viewState) {
    const [height, width] = this.info.canvas;
    const [x, y] = viewState.target;
    this.viewState = { ...viewState, target: [clamp(x, 0, width), clamp(y, 0, height), 0] };
    this.draw();
  }

  fit() {
    this.move(this.whole());
  }

  /** Canvas pixels in view: x0, y0, x1, y1. */
  bounds() {
    const { clientWidth, clientHeight } = byId("view");
    const [x, y] = this.viewState.target;
    const scale = 2 ** this.viewState.zoom;
    const [w, h] = [clientWidth / scale / 2, clientHeight / scale / 2];
    return [x - w, y - h, x + w, y + h];
  }

  /** The level that deck.gl draws at this zoom, and its step in canvas pixels. */
  async drawn() {
    const pyramid = await this.pyramid(this.image);
    const finest = Math.ceil(this.viewState.zoom) + Math.log2(this.image.step) - coarser(this.image);
    const level = clamp(-finest, 0, pyramid.length - 1);
    return { source: pyramid[level], step: this.image.step * 2 ** level };
  }

  draw() {
    const pyramid = this.pyramids.get(this.image?.name);
    if (!pyramid) return;
    const { image, channels, selections, z } = this;
    const layers = [];
    if (channels.length > 0) {
      const colormap = image.dtype.startsWith("float") && channels.length === 1 ? "viridis" : null;
      layers.push(imageLayer({ image, pyramid, channels, selections, colormap }));
    }
    if (this.overlay && this.opacity > 0) {
      layers.push(labelLayer({ ...this.overlay, z, opacity: this.opacity }));
    }
    this.deck.setProps({ viewState: this.viewState, layers });
    this.controls.scale();
    this.remember();
    this.settle();
  }

  /** Look at every frame whether all is drawn, until it is. (deck.gl does not say when its last layer is.) */
  settle() {
    body.dataset.state = "loading";
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      const loaded = this.deck.isInitialized && this.deck.props.layers.every((layer) => layer.isLoaded);
      if (!loaded || this.reading.pending > 0 || this.deck.needsRedraw()) this.settle();
      else body.dataset.state = "ready";
    });
  }

  progress() {
    const { pending, chunks, bytes, requests, missing, errors } = this.reading;
    byId("status").textContent = pending > 0 ? `reading ${pending} chunk${pending > 1 ? "s" : ""}` : "";
    body.dataset.chunks = chunks;
    body.dataset.requests = requests;
    body.dataset.bytes = bytes;
    const lines = [];
    if (!this.info.complete) lines.push("This store is not complete: what is not written yet is black.");
    else if (missing.size > 0) {
      const [first] = missing;
      lines.push(`${missing.size} object(s) of the store are missing and shown black, first ${first}.`);
    }
    for (const [where, error] of errors) lines.push(`${where}: ${error.cause?.message ?? error.message}`);
    this.controls.warn(lines);
  }

  fail(error) {
    this.reading.errors.set("drawing", error);
    this.progress();
  }

  // ---- where we are

  async hover(coordinate) {
    this.cursor = coordinate ?? null;
    if (!this.cursor || !this.image) {
      byId("readout").textContent = "";
      return;
    }
    const [x, y] = this.cursor;
    const [height, width] = this.info.canvas;
    if (x < 0 || y < 0 || x >= width || y >= height) {
      byId("readout").textContent = "";
      return;
    }
    const um = this.info.pixel_size_um;
    const words = [`x ${(x * um).toFixed(1)} y ${(y * um).toFixed(1)} µm`];
    const { source, step } = await this.drawn();
    for (const { c, name, visible } of this.channels) {
      const value = visible ? source.peek({ c, z: this.z }, Math.floor(y / step), Math.floor(x / step)) : undefined;
      if (value !== undefined) words.push(`${name} ${Number(value.toPrecision(3))}`);
    }
    if (this.overlay) words.push(...this.labelAt(x, y));
    byId("readout").textContent = words.join("  ");
  }

  labelAt(x, y) {
    const { image, pyramid } = this.overlay;
    const value = pyramid[0].peek({ z: this.z }, Math.floor(y / image.step), Math.floor(x / image.step));
    if (!value) return [];
    return [image.name === "regions" ? (this.info.region_names[value] ?? `region ${value}`) : image.name];
  }

  /** The address holds what is shown, so that it can be kept and sent. */
  remember() {
    const { target, zoom } = this.viewState;
    const words = {
      image: this.image.name,
      channels: this.channels.map(({ name }) => name).join(","),
      z: this.z,
      x: Math.round(target[0]),
      y: Math.round(target[1]),
      zoom: zoom.toFixed(2),
      ...(this.overlay ? { labels: this.overlay.image.name } : {}),
    };
    clearTimeout(this.timer);
    this.timer = setTimeout(() => history.replaceState(null, "", `#${new URLSearchParams(words)}`), 200);
  }
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, Number.isFinite(value) ? value : low));
}

async function start() {
  if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this browser offers no WebGL 2");
  const response = await fetch("view.json");
  if (!response.ok) throw new Error(`view.json: ${response.status} ${response.statusText}`);
  const viewer = new Viewer(await response.json());
  await viewer.start();
}

start().catch((error) => {
  body.dataset.state = "failed";
  const warning = byId("warning");
  warning.hidden = false;
  warning.textContent = `The store could not be shown: ${error.message}`;
});
