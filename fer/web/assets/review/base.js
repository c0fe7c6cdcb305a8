// What every page of the console needs: texts, requests, elements, toasts.

export const root = document.documentElement.dataset.root;

/** What `/review/api/session` said: who is here, texts, labels, keys. Filled in by app.js. */
export const session = {};

export function t(key, values = {}) {
  const text = session.texts?.[key];
  if (text === undefined) return key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** A label as operators read it; one that has no translation as it is. */
export function labelText(name) {
  return session.texts?.[`label.${name.toLowerCase()}`] ?? name;
}

/** What a decision did, in a word or two. */
export function decisionText(kind, label) {
  if (label && (kind === 'confirm' || kind === 'relabel')) return labelText(label);
  return t(`kind.${kind}`);
}

/** An element. Texts go in as text, never as HTML: labels and notes come from outside. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'class') node.className = value;
    else if (value === true) node.setAttribute(name, '');
    else node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export class Refused extends Error {
  constructor(status, body) {
    super(body?.message ?? t('error.general'));
    this.status = status;
    this.code = body?.code ?? '';
    this.details = body?.details ?? {};
  }
}

/** A request to the console's API: the answer's JSON, or `Refused`, or a TypeError (no network). */
export async function call(method, path, body) {
  const headers = { Accept: 'application/json' };
  if (method !== 'GET') headers['X-CSRF-Token'] = session.csrf;
  if (body !== undefined && !(body instanceof Blob)) {
    headers['Content-Type'] = 'application/json';
    body = JSON.stringify(body);
  }
  const response = await fetch(`${root}/review/api/${path}`, {
    method, headers, body, credentials: 'same-origin', cache: 'no-store',
  });
  let answer = null;
  try {
    answer = await response.json();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

export const get = (path) => call('GET', path);
export const post = (path, body = {}) => call('POST', path, body);

/** A picture, kept in this page's memory only: `no-store` keeps it out of the browser's cache. */
export async function picture(id, side) {
  const query = side ? `?side=${side}` : '';
  const response = await fetch(`${root}/review/image/${encodeURIComponent(id)}${query}`, {
    credentials: 'same-origin', cache: 'no-store',
  });
  if (!response.ok) throw new Refused(response.status, null);
  return response.blob();
}

export function toast(text, bad = false) {
  const box = el('div', { class: bad ? 'bad' : '' }, el('span', {}, text));
  box.append(el('button', { 'aria-label': t('close'), onclick: () => box.remove() }, '×'));
  document.getElementById('toasts').append(box);
  setTimeout(() => box.remove(), bad ? 12000 : 4000);
}

/** Say why something did not work. */
export function complain(error) {
  if (error instanceof Refused && error.status === 401) signedOut();
  else toast(error instanceof Refused ? error.message : t('error.network'), true);
}

export function banner(id, text, ...buttons) {
  document.getElementById(id)?.remove();
  if (text === null) return;
  document.getElementById('banners').append(el('div', { id }, el('span', {}, text), ...buttons));
}

export function signedOut() {
  const link = el('a', { href: `${root}/sign-in?next=${encodeURIComponent(innerPath())}`, target: '_blank' }, t('sign_in.button'));
  banner('signed-out', t('sign_in.over'), link);
}

export function innerPath() {
  return location.pathname.slice(root.length).replace(/\/$/, '') || '/review';
}

/** Ask in a dialog. Resolves to the text that was typed, to '' for a plain yes, or to null. */
export function ask({ title, text, yes, input, danger }) {
  const dialog = document.getElementById('ask');
  const field = input ? el('input', { type: 'text', maxlength: input.max, placeholder: input.hint ?? '', 'aria-label': title }) : null;
  const form = el('form', { method: 'dialog' },
    el('h2', {}, title), text ? el('p', {}, text) : null, field,
    el('menu', {},
      el('button', { type: 'button', onclick: () => dialog.close('no') }, t('cancel')),
      el('button', { class: danger ? 'danger' : 'primary', value: 'yes' }, yes)));
  dialog.replaceChildren(form);
  dialog.returnValue = 'no';
  dialog.showModal();
  (field ?? form.querySelector('.primary, .danger')).focus();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      resolve(dialog.returnValue === 'yes' ? (field ? field.value.trim() : '') : null);
    }, { once: true });
  });
}

export const percent = (share) => (share > 0 && share < 0.005 ? '<1 %' : `${Math.round(100 * share)} %`);

/** The reader's own variety of the page's language, for dates and numbers. */
export function locale() {
  return navigator.languages.find((tag) => tag.split('-')[0] === session.language) ?? session.language;
}

export function when(iso) {
  return iso ? new Date(iso).toLocaleString(locale(), { dateStyle: 'medium', timeStyle: 'short' }) : '–';
}

/** Whether a key press is meant for a field or a dialog and not for the page. */
export function typing(event) {
  const target = event.target;
  if (document.querySelector('dialog[open]')) return true;
  return target instanceof HTMLInputElement || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
}
