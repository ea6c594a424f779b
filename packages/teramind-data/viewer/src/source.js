// One pyramid level as a pixel source of Viv, read through zarrita chunk by chunk.
//
// Viv asks for one channel of one tile; a chunk of our stores holds every channel of a section. Chunks are therefore
// kept, so that the second stain, or the next gene, costs nothing.

import * as zarr from "zarrita";

import { CheckedCrc32c } from "./crc32c.js";
import { SIGNAL_ABORTED } from "./viv-loaders.js";

zarr.registry.set("crc32c", () => CheckedCrc32c);

const CACHE_BYTES = 256 * 2 ** 20;
/** Ranges of a shard that are closer than this are fetched as one. */
const COALESCE_BYTES = 64 * 2 ** 10;

/** Decoded chunks, the least recently used given up first. */
class ChunkCache {
  #chunks = new Map();
  #bytes = 0;

  get(key, load) {
    const known = this.#chunks.get(key);
    if (known) {
      this.#chunks.delete(key);
      this.#chunks.set(key, known);
      return known.promise;
    }
    const entry = { bytes: 0, value: null };
    entry.promise = load().then(
      (value) => {
        entry.value = value;
        if (this.#chunks.get(key) === entry) {
          entry.bytes = value.byteLength;
          this.#bytes += entry.bytes;
          this.#shrink();
        }
        return value;
      },
      (error) => {
        if (this.#chunks.get(key) === entry) this.#chunks.delete(key);
        throw error;
      },
    );
    this.#chunks.set(key, entry);
    return entry.promise;
  }

  /** The chunk if it is here already, else undefined. */
  peek(key) {
    return this.#chunks.get(key)?.value ?? undefined;
  }

  #shrink() {
    for (const [key, entry] of this.#chunks) {
      if (this.#bytes <= CACHE_BYTES) return;
      if (entry.value === null) continue;
      this.#chunks.delete(key);
      this.#bytes -= entry.bytes;
    }
  }
}

/** What all sources of a page share: the chunk cache, counts of the work, and what went wrong. */
export class Reading {
  cache = new ChunkCache();
  pending = 0;
  chunks = 0;
  requests = 0;
  bytes = 0;
  /** Objects that are absent though no list says that they are empty. */
  missing = new Set();
  errors = new Map();
  onChange = () => {};

  begin() {
    this.pending += 1;
    this.onChange();
  }

  end() {
    this.pending -= 1;
    this.onChange();
  }
}

/** The store at a URL, counting what it reads.
 *
 * Ranges are kept from the browser's cache, which would line up simultaneous reads of one shard.
 */
export function openStore(url, reading) {
  const store = new zarr.FetchStore(url, {
    useSuffixRequest: true,
    fetch: async (request) => {
      if (!request.headers.has("Range")) return fetch(request);
      const response = await fetch(request, { cache: "no-store" });
      reading.requests += 1;
      reading.bytes += response.ok ? Number(response.headers.get("Content-Length") ?? 0) : 0;
      if (response.status === 404) reading.missing.add(request.url.slice(url.length));
      return response;
    },
  });
  return zarr.withRangeCoalescing(store, { coalesceSize: COALESCE_BYTES });
}

const VIV_TYPES = { uint8: "Uint8", uint16: "Uint16", uint32: "Uint32" };
const CONTAINERS = { Uint8: Uint8Array, Uint16: Uint16Array, Uint32: Uint32Array, Float32: Float32Array };

/** All levels of one image (`image` as view.json describes it), finest first. */
export async function openPyramid(store, image, reading) {
  const root = zarr.root(store);
  const arrays = await Promise.all(
    image.levels.map(({ path }) => zarr.open.v3(root.resolve(`${image.path}/${path}`), { kind: "array" })),
  );
  return arrays.map((array, level) => new LevelSource(array, image, level, reading));
}

/** Viv's PixelSource over one level. Axes c z y x, labels z y x. */
export class LevelSource {
  #array;
  #image;
  #level;
  #reading;
  #edge;
  #divisor;

  constructor(array, image, level, reading) {
    this.#array = array;
    this.#image = image;
    this.#level = level;
    this.#reading = reading;
    this.#edge = array.chunks.at(-1);
    this.labels = image.labels ? ["z", "y", "x"] : ["c", "z", "y", "x"];
    this.shape = array.shape;
    [this.height, this.width] = array.shape.slice(-2);
    // Sums are shown as the mean of the bins that they are of, so that colours mean the same at every zoom.
    const summed = image.reduce === "sum";
    this.#divisor = summed ? 4 ** level : 1;
    this.dtype = summed ? "Float32" : (VIV_TYPES[array.dtype] ?? "Float32");
    // Viv takes the first level's tile size for all. Chunks of many channels are small and drawn several at a time.
    this.tileSize = Math.max(image.channels.length > 8 ? 64 : 256, this.#edge);
  }

  /** Whether the store lists the shard of a chunk as empty on purpose. */
  #isEmpty(z, cy, cx) {
    const ranges = this.#array.attrs?.teramind?.empty_shards ?? [];
    if (ranges.length === 0) return false;
    const { shard } = this.#image.levels[this.#level];
    const [iy, ix] = [cy, cx].map((index) => Math.floor((index * this.#edge) / shard));
    const [ny, nx] = [this.height, this.width].map((size) => Math.ceil(size / shard));
    const number = (z * ny + iy) * nx + ix;
    return ranges.some(([first, last]) => first <= number && number <= last);
  }

  /** One chunk with every channel, (c, edge, edge) flat; null where there is nothing but zeros. */
  #chunk(z, cy, cx) {
    if (this.#isEmpty(z, cy, cx)) return Promise.resolve(null);
    const reading = this.#reading;
    return reading.cache.get(this.#key(z, cy, cx), async () => {
      reading.begin();
      try {
        const { data } = await this.#array.getChunk(this.#image.labels ? [z, cy, cx] : [0, z, cy, cx]);
        reading.chunks += 1;
        return data;
      } catch (error) {
        reading.errors.set(`${this.#image.path}/${this.#level}, section ${z}`, error);
        throw error;
      } finally {
        reading.end();
      }
    });
  }

  #key(z, cy, cx) {
    return `${this.#image.path}/${this.#level}/${z}/${cy}/${cx}`;
  }

  /** Pixels of one channel and section: rows y0..y1, columns x0..x1. */
  async #read({ c = 0, z }, [y0, y1], [x0, x1]) {
    const edge = this.#edge;
    const [height, width] = [y1 - y0, x1 - x0];
    const data = new CONTAINERS[this.dtype](height * width);
    const copy = (chunk, cy, cx) => {
      const [top, bottom] = [Math.max(y0, cy * edge), Math.min(y1, (cy + 1) * edge)];
      const [left, right] = [Math.max(x0, cx * edge), Math.min(x1, (cx + 1) * edge)];
      for (let y = top; y < bottom; y += 1) {
        const from = (c * edge + y - cy * edge) * edge + left - cx * edge;
        const to = (y - y0) * width + left - x0;
        for (let i = 0; i < right - left; i += 1) data[to + i] = Number(chunk[from + i]) / this.#divisor;
      }
    };
    const jobs = [];
    for (let cy = Math.floor(y0 / edge); cy * edge < y1; cy += 1) {
      for (let cx = Math.floor(x0 / edge); cx * edge < x1; cx += 1) {
        jobs.push(this.#chunk(z, cy, cx).then((chunk) => chunk && copy(chunk, cy, cx)));
      }
    }
    await Promise.all(jobs);
    return { data, width, height };
  }

  /** The whole plane. Viv asks for it of the coarsest level only. */
  async getRaster({ selection }) {
    return this.#read(selection, [0, this.height], [0, this.width]);
  }

  async getTile({ x, y, selection, signal }) {
    if (signal?.aborted) throw SIGNAL_ABORTED;
    const span = (index, end) => [index * this.tileSize, Math.min((index + 1) * this.tileSize, end)];
    const [rows, columns] = [span(y, this.height), span(x, this.width)];
    if (rows[0] >= rows[1] || columns[0] >= columns[1]) return { data: new Uint8Array(0), width: 0, height: 0 };
    return this.#read(selection, rows, columns);
  }

  /** The value at a pixel of this level where its chunk is in memory, else undefined. */
  peek({ c = 0, z }, y, x) {
    const edge = this.#edge;
    const [cy, cx] = [Math.floor(y / edge), Math.floor(x / edge)];
    if (this.#isEmpty(z, cy, cx)) return 0;
    const chunk = this.#reading.cache.peek(this.#key(z, cy, cx));
    const value = chunk?.[(c * edge + y - cy * edge) * edge + x - cx * edge];
    return value === undefined ? undefined : Number(value) / this.#divisor;
  }

  /** Viv's hook. What went wrong is in `reading.errors`, which the page shows. */
  onTileError() {}
}
