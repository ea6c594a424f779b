// What deck.gl draws: Viv's layer for the image, coloured tiles for labels over it.

import { TileLayer } from "@deck.gl/geo-layers";
import { BitmapLayer } from "@deck.gl/layers";
import { MultiscaleImageLayer } from "@vivjs/layers";
import { AdditiveColormapExtension, ColorPaletteExtension } from "@vivjs/extensions";
import { Matrix4 } from "@math.gl/core";

import { TISSUE, labelColor } from "./colors.js";

const PALETTE = [new ColorPaletteExtension()];
const COLORMAP = [new AdditiveColormapExtension()];

/** How many levels coarser than the screen an image is drawn. A chunk holds all channels, so that with hundreds of
 * genes a screenful of bins of one pixel would be hundreds of megabytes. */
export const coarser = (image) => (image.channels.length > 8 ? 2 : 0);

/** Viv's layer, whose choice of level can be shifted. */
class ImageLayer extends MultiscaleImageLayer {
  static layerName = "ShiftedImageLayer";

  renderLayers() {
    const [background, tiles] = super.renderLayers();
    return [background, tiles.clone({ zoomOffset: tiles.props.zoomOffset - this.props.coarser })];
  }
}

/** An image in canvas pixels. `channels`: {c, visible, color, limits}, at most ten. */
export function imageLayer({ image, pyramid, channels, selections, colormap }) {
  return new ImageLayer({
    id: `image-${image.name}`,
    loader: pyramid,
    selections,
    channelsVisible: channels.map((channel) => channel.visible),
    colors: channels.map((channel) => channel.color),
    contrastLimits: channels.map((channel) => channel.limits),
    dtype: pyramid[0].dtype,
    modelMatrix: new Matrix4().scale([image.step, image.step, 1]),
    extensions: colormap ? COLORMAP : PALETTE,
    ...(colormap ? { colormap } : {}),
    coarser: coarser(image),
    maxRequests: 16,
    pickable: false,
  });
}

/** Labels of a section as colours, whatever lies below showing through. */
export function labelLayer({ image, pyramid, z, opacity }) {
  const colorOf = image.name === "regions" ? labelColor : () => TISSUE;
  const size = pyramid[0].tileSize;
  return new TileLayer({
    id: `labels-${image.name}-${z}`,
    tileSize: size,
    extent: [0, 0, pyramid[0].width, pyramid[0].height],
    minZoom: -(pyramid.length - 1),
    maxZoom: 0,
    zoomOffset: Math.round(Math.log2(image.step)),
    modelMatrix: new Matrix4().scale([image.step, image.step, 1]),
    // deck.gl takes opacity for a perceived one and brightens it; this undoes that.
    opacity: opacity ** 2.2,
    getTileData: async ({ index, signal }) => {
      const tile = await pyramid[Math.round(-index.z)].getTile({ ...index, selection: { z }, signal });
      return tile.width > 0 ? painted(tile, size, colorOf) : null;
    },
    renderSubLayers: ({ data, tile, ...props }) => {
      if (!data) return null;
      const { left, top, right, bottom } = tile.bbox;
      return new BitmapLayer({
        ...props,
        data: null,
        image: data,
        bounds: [left, bottom, right, top],
        textureParameters: { minFilter: "nearest", magFilter: "nearest" },
      });
    },
  });
}

/** A tile of labels as a picture of the whole tile's size; 0 is transparent. */
function painted({ data, width, height }, size, colorOf) {
  const picture = new ImageData(size, size);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const value = data[y * width + x];
      if (value !== 0) picture.data.set([...colorOf(value), 255], (y * size + x) * 4);
    }
  }
  return picture;
}
