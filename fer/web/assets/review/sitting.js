// A sitting: from the first face to signing out. Its labels and keys stay, through reloads too.

import { session } from './base.js';

const PREFIX = 'fer-review-';

export const store = {
  read(name) {
    try {
      return JSON.parse(sessionStorage.getItem(PREFIX + name));
    } catch (error) {
      if (error instanceof SyntaxError) return null;
      throw error;
    }
  },
  write(name, value) {
    sessionStorage.setItem(PREFIX + name, JSON.stringify(value));
  },
  clear() {
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
  },
};

/** The sitting that goes on in this tab, or a new one with the champion's labels. */
export function takeSeat() {
  const old = store.read('sitting');
  // A sitting belongs to who began it, and ends with the session.
  if (old && old.name === session.name && old.csrf === session.csrf) return old;
  store.clear();
  const fresh = { id: session.new_sitting, name: session.name, csrf: session.csrf, labels: session.champion.labels, keys: session.champion.keys, model: session.champion.version };
  store.write('sitting', fresh);
  return fresh;
}
