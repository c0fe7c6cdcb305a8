// Fetches faces ahead: the next ones are drawn before they are asked for.

import { picture, post } from './base.js';

/** Side of a drawn face, in pixels of its canvas. */
const SIDE = 560;

/** Draw the crop that the model saw: levelled, square. */
export function drawCrop(bitmap, crop, side = SIDE) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = side;
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.translate(side / 2, side / 2);
  context.scale(side / crop.side, side / crop.side);
  context.rotate((-crop.roll * Math.PI) / 180);
  context.translate(-crop.x, -crop.y);
  context.drawImage(bitmap, 0, 0);
  return canvas;
}

/** Draw all that was kept, with the crop's outline. */
export function drawWhole(bitmap, crop) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = SIDE;
  const scale = SIDE / Math.max(bitmap.width, bitmap.height);
  const context = canvas.getContext('2d');
  context.translate((SIDE - bitmap.width * scale) / 2, (SIDE - bitmap.height * scale) / 2);
  context.scale(scale, scale);
  context.drawImage(bitmap, 0, 0);
  context.translate(crop.x, crop.y);
  context.rotate((crop.roll * Math.PI) / 180);
  context.lineWidth = 2 / scale;
  context.strokeStyle = '#fff';
  context.strokeRect(-crop.side / 2, -crop.side / 2, crop.side, crop.side);
  return canvas;
}

/** Load a face's picture and draw it. The face then has `bitmap` and `canvas`. */
export async function load(face) {
  const bitmap = await createImageBitmap(await picture(face.id));
  face.bitmap = bitmap;
  face.canvas = drawCrop(bitmap, face.crop);
  return face;
}

/** The faces that were leased for this page and not shown yet. */
export class Pool {
  /**
   * @param {() => object} request what to ask the server for
   * @param {(answer: object) => void} onAnswer called with every answer
   * @param {() => void} onReady called when faces came, or when there are none
   * @param {(error: Error) => void} onTrouble called when the server cannot be reached
   */
  constructor(request, onAnswer, onReady, onTrouble) {
    Object.assign(this, { request, onAnswer, onReady, onTrouble });
    this.faces = [];
    this.busy = false;
    this.empty = false;
    this.generation = 0;
  }

  /** The next face whose picture is drawn, or null. */
  take() {
    if (this.faces.length && this.faces[0].canvas) return this.faces.shift();
    return null;
  }

  putBack(face) {
    this.faces.unshift(face);
  }

  ids() {
    return this.faces.map((face) => face.id);
  }

  drop(ids) {
    this.faces = this.faces.filter((face) => !ids.has(face.id));
  }

  /** Forget everything, for another order. */
  clear() {
    const ids = this.ids();
    this.faces = [];
    this.empty = false;
    this.generation += 1;
    this.busy = false;
    return ids;
  }

  /** Ask for more where few are left. */
  async fill(wanted) {
    if (this.busy || this.faces.length >= wanted) return;
    this.busy = true;
    const generation = this.generation;
    try {
      const answer = await post('queue', { ...this.request(), count: wanted });
      if (generation !== this.generation) return;
      this.onAnswer(answer);
      const known = new Set(this.ids());
      const fresh = answer.faces.filter((face) => !known.has(face.id) && !this.skip(face.id));
      this.empty = fresh.length === 0;
      this.faces.push(...fresh);
      // In order, so that the one that is shown next is there first.
      for (const face of fresh) {
        try {
          await load(face);
        } catch (error) {
          if (!(error instanceof Error)) throw error;
          this.faces = this.faces.filter((other) => other !== face);
          continue;
        }
        if (generation === this.generation) this.onReady();
      }
    } catch (error) {
      if (generation === this.generation) this.onTrouble(error);
    } finally {
      if (generation === this.generation) this.busy = false;
    }
    if (generation === this.generation) this.onReady();
  }

  /** Whether a face was dealt with here already; replaced by the page. */
  skip() {
    return false;
  }
}
