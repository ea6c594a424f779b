// What Viv's layers use of @vivjs/loaders; build.mjs puts it in its place. The rest of it reads TIFF, with decoders
// that this page has no use for, and takes a picture that is three or four pixels wide for an interleaved RGB one.

/** Thrown by a source when a tile is no longer wanted. */
export const SIGNAL_ABORTED = "__vivSignalAborted";

/** Our axes always end with y and x. */
export const isInterleaved = () => false;

export function getImageSize({ shape }) {
  const [height, width] = shape.slice(-2);
  return { height, width };
}
