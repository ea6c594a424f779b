// Colours of channels and labels, and contrast limits.

/** Colours of stains: what they are by habit, light enough for a dark page. */
const STAINS = { DAPI: [72, 118, 255], PolyT: [60, 220, 90] };
/** Colour of a mask. */
export const TISSUE = [200, 200, 200];
const CHANNELS = [
  [255, 82, 82],
  [64, 210, 255],
  [255, 214, 64],
  [200, 110, 255],
  [90, 240, 130],
  [255, 150, 70],
];

/** A channel's first colour, by name and by position among those shown. */
export function channelColor(name, position) {
  return STAINS[name] ?? CHANNELS[position % CHANNELS.length];
}

/** A label's colour: hues a golden angle apart, so that neighbouring numbers differ. */
export function labelColor(value) {
  const hue = (value * 137.508) % 360;
  const light = value % 3 === 0 ? 0.45 : 0.6;
  const chroma = 0.9 * (1 - Math.abs(2 * light - 1));
  return [0, 8, 4].map((n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (light - (chroma / 2) * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

export const toHex = (color) => `#${color.map((v) => v.toString(16).padStart(2, "0")).join("")}`;
export const fromHex = (text) => [1, 3, 5].map((i) => Number.parseInt(text.slice(i, i + 2), 16));

/** Contrast limits from pixels: background to the brightest few of those that are not zero. */
export function limitsOf(values, top) {
  const sorted = Float32Array.from(values.filter((value) => value > 0)).sort();
  if (sorted.length === 0) return [0, top];
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  const high = at(0.998);
  return [0, high > 0 ? high : top];
}
