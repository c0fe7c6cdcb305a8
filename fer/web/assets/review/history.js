// Everything that was ever said about a face, and a way back to any of it.

import { ask, complain, decisionText, el, get, labelText, percent, picture, post, session, t, when } from './base.js';

let shownPicture = null;
let onChange = null;

export function closeHistory() {
  const drawer = document.getElementById('drawer');
  drawer.hidden = true;
  drawer.replaceChildren();
  if (shownPicture) URL.revokeObjectURL(shownPicture);
  shownPicture = null;
}

/** Open the drawer for a sample. `changed` is called after a restore or a deletion. */
export async function openHistory(id, changed = null) {
  onChange = changed;
  let answer;
  try {
    answer = await get(`samples/${encodeURIComponent(id)}`);
  } catch (error) {
    complain(error);
    return;
  }
  closeHistory();
  const drawer = document.getElementById('drawer');
  const { sample, events } = answer;
  const image = el('img', { alt: '' });
  const close = el('button', { 'aria-label': t('close'), onclick: closeHistory }, '×');
  drawer.append(el('header', {}, el('h2', {}, t('history.title')), close), image, facts(sample),
    el('ol', { class: 'events' }, events.map((event) => row(sample, event)).reverse(), first(sample, events)));
  if (session.role === 'admin' && !sample.deleted_at) {
    drawer.append(el('button', { class: 'danger', onclick: () => remove(sample) }, t('history.delete')));
  }
  drawer.hidden = false;
  close.focus();
  try {
    shownPicture = URL.createObjectURL(await picture(id));
    image.src = shownPicture;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    image.remove();
  }
}

addEventListener('keydown', (event) => {
  const drawer = document.getElementById('drawer');
  if (event.key === 'Escape' && !drawer.hidden && !document.querySelector('dialog[open]')) {
    event.stopImmediatePropagation();
    closeHistory();
  }
}, true);

function facts(sample) {
  const rows = [];
  const add = (name, value) => value && rows.push(el('dt', {}, t(name)), el('dd', {}, value));
  add('fact.status', t(`status.${sample.status}`));
  add('fact.label', sample.final_label && labelText(sample.final_label));
  if (!sample.blind && sample.predicted_label) add('fact.predicted', `${labelText(sample.predicted_label)} ${percent(sample.confidence)}`);
  if (sample.blind) add('fact.predicted', t('history.blind'));
  add('fact.model', sample.model_version);
  add('fact.when', when(sample.created_at));
  add('fact.expires', sample.expires_at && when(sample.expires_at));
  add('fact.id', sample.id);
  return el('dl', { class: 'facts' }, rows);
}

function row(sample, event) {
  const from = event.from_label ? labelText(event.from_label) : '–';
  const to = event.to_label ? labelText(event.to_label) : decisionText(event.kind, null);
  const restore = !sample.deleted_at && event.kind !== 'suggest' && event.row_version !== sample.row_version;
  const marks = [];
  if (event.blind) marks.push(el('span', { class: 'chip' }, t('queue.blind')));
  if (event.second) marks.push(el('span', { class: 'chip' }, t('queue.second')));
  return el('li', {},
    el('time', { datetime: event.at }, when(event.at)),
    el('div', {}, el('b', {}, t(`event.${event.kind}`)), ` ${from} → ${to} `, marks),
    event.note ? el('div', {}, `“${event.note}”`) : null,
    el('div', { class: 'quiet' }, event.actor_kind === 'visitor' ? t('queue.visitor') : event.actor, event.order_shown ? ` · ${t(`order.${event.order_shown}`)}` : ''),
    restore ? el('button', { onclick: () => goBack(sample, event) }, t('history.restore')) : null);
}

/** The state in which the sample was kept: before every event. */
function first(sample, events) {
  const back = !sample.deleted_at && events.some((event) => event.kind !== 'suggest') && sample.status !== 'pending';
  return el('li', {}, el('time', { datetime: sample.created_at }, when(sample.created_at)), el('div', {}, el('b', {}, t('event.kept'))),
    back ? el('button', { onclick: () => goBack(sample, { id: null }) }, t('history.restore')) : null);
}

async function goBack(sample, event) {
  try {
    await post('restore', { sample_id: sample.id, event_id: event.id });
  } catch (error) {
    complain(error);
    return;
  }
  const after = onChange;
  await openHistory(sample.id, after);
  after?.(sample.id);
}

async function remove(sample) {
  const sure = await ask({ title: t('history.delete'), text: t('history.delete_sure'), yes: t('history.delete'), danger: true });
  if (sure === null) return;
  try {
    await post('delete', { ids: [sample.id] });
  } catch (error) {
    complain(error);
    return;
  }
  closeHistory();
  onChange?.(sample.id);
}
