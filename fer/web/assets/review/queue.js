// One face at a time, by keys: the next one is shown at once, the decision is sent behind it.

import { ask, banner, complain, decisionText, el, labelText, locale, percent, post, root, session, t, toast, typing, when } from './base.js';
import { Pool, drawCrop, drawWhole, load } from './faces.js';
import { openHistory } from './history.js';
import { store } from './sitting.js';

/** Faces fetched ahead. */
const AHEAD = 10;
const TRAIL = 14;
const RENEW_MS = 40000;
const LOOK_AGAIN_MS = 15000;

export class QueuePage {
  constructor(view, outbox) {
    this.view = view;
    this.outbox = outbox;
    this.sitting = session.sitting;
    this.current = null;
    this.trail = [];
    this.handled = new Set();
    this.undoing = 0;
    this.left = null;
    this.whole = false;
    this.order = store.read('order') ?? session.orders[0];
    this.pool = new Pool(
      () => ({ order: this.order }),
      (answer) => this.onAnswer(answer),
      () => this.onReady(),
      (error) => this.onTrouble(error));
    this.pool.skip = (id) => this.handled.has(id) || this.current?.id === id;
    this.build();
    this.timers = [
      setInterval(() => this.renew(), RENEW_MS),
      setInterval(() => this.lookAgain(), LOOK_AGAIN_MS),
    ];
    this.abort = new AbortController();
    const options = { signal: this.abort.signal };
    addEventListener('keydown', (event) => this.onKey(event), options);
    addEventListener('pagehide', () => this.leave(), options);
    addEventListener('pageshow', (event) => event.persisted && location.reload(), options);
    document.addEventListener('visibilitychange', () => this.renew(), options);
    this.pool.fill(AHEAD);
  }

  /** Leave the page for another one of the console. */
  close() {
    this.timers.forEach(clearInterval);
    this.abort.abort();
    this.leave();
  }

  // What is on the page

  build() {
    const choice = el('select', { id: 'order', 'aria-label': t('queue.order'), onchange: () => this.reorder(choice.value) },
      session.orders.map((name) => el('option', { value: name, selected: name === this.order }, t(`order.${name}`))));
    this.count = el('output', {});
    this.face = el('div', { class: 'face', id: 'face' });
    this.trailBox = el('div', { class: 'trail', id: 'trail' });
    this.labels = el('div', { class: 'labels', id: 'labels' });
    this.facts = el('dl', { class: 'facts panel' });
    const act = (key, text, run, wide) => el('button', { 'data-act': key, class: wide ? 'wide' : '', onclick: run }, el('kbd', {}, key), text);
    this.confirm = act('↵', t('act.confirm'), () => this.confirmPrediction(), true);
    const acts = el('div', { class: 'acts' }, this.confirm,
      act('O', t('act.other'), () => this.other()),
      act('X', t('act.reject'), () => this.decide('reject', null)),
      act('U', t('act.unsure'), () => this.decide('unsure', null)),
      act('⌫', t('act.undo'), () => this.undo()));
    this.content = el('div', { class: 'queue' },
      el('section', { class: 'stage' }, this.face, this.trailBox),
      el('section', { class: 'side' }, el('div', { class: 'order' }, choice, this.count), this.labels, acts, this.facts));
    this.view.replaceChildren(this.content);
    this.buildLabels();
    this.show(null);
  }

  buildLabels() {
    this.rows = new Map();
    this.labels.replaceChildren(...this.sitting.keys.map(([label, key]) => {
      const bar = el('i', {});
      const share = el('span', { class: 'share' });
      const chips = el('span', {});
      const row = el('button', { 'data-label': label, onclick: () => this.choose(label) },
        el('kbd', {}, key.toUpperCase()), el('span', { class: 'name' }, labelText(label), chips),
        el('span', { class: 'bar' }, bar), share);
      this.rows.set(label, { row, bar, share, chips });
      return row;
    }));
  }

  show(face) {
    this.current = face;
    this.whole = false;
    this.content.classList.toggle('idle', !face);
    for (const button of this.content.querySelectorAll('.labels button, .acts button:not([data-act="⌫"])')) button.disabled = !face;
    if (!face) {
      this.face.replaceChildren(el('p', {}, t('queue.loading')));
      this.facts.replaceChildren();
      this.clearBars();
      return;
    }
    const badge = face.blind ? t(face.queue === 'second' ? 'queue.second' : 'queue.blind') : face.queue === 'differences' ? t('queue.differs') : null;
    this.face.dataset.id = face.id;
    this.face.replaceChildren(face.canvas, ...(badge ? [el('span', { class: 'badge' }, badge)] : []));
    this.fillBars(face);
    this.fillFacts(face);
  }

  clearBars() {
    delete this.face.dataset.id;
    this.labels.classList.remove('blind');
    for (const { row, bar, share, chips } of this.rows.values()) {
      row.classList.remove('first', 'pressed');
      bar.style.width = '0';
      share.textContent = '';
      chips.replaceChildren();
    }
  }

  fillBars(face) {
    this.labels.classList.toggle('blind', face.blind);
    this.confirm.disabled = face.blind || !face.predicted_label;
    const shares = new Map((face.probabilities ?? []).map(([label, p]) => [label.toLowerCase(), p]));
    const same = (a, b) => a && b && a.toLowerCase() === b.toLowerCase();
    for (const [label, { row, bar, share, chips }] of this.rows) {
      const p = shares.get(label.toLowerCase());
      row.classList.remove('pressed');
      row.classList.toggle('first', same(face.predicted_label, label) ?? false);
      bar.style.width = p === undefined ? '0' : `${100 * p}%`;
      share.textContent = p === undefined ? '' : percent(p);
      const marks = [];
      if (same(face.visitor_label, label)) marks.push(el('span', { class: face.visitor_disagreed ? 'chip warn' : 'chip' }, t('queue.visitor')));
      if (face.opinions) for (const [n, opinion] of face.opinions.entries()) if (same(opinion.label, label)) marks.push(el('span', { class: 'chip warn' }, t('queue.opinion', { n: n + 1 })));
      chips.replaceChildren(...marks);
    }
  }

  fillFacts(face) {
    const rows = [];
    const add = (name, value) => value && rows.push(el('dt', {}, t(name)), el('dd', {}, value));
    if (!face.blind) {
      const shown = this.sitting.labels.some((label) => label.toLowerCase() === face.predicted_label?.toLowerCase());
      if (!shown && face.predicted_label) add('fact.predicted', `${labelText(face.predicted_label)} ${percent(face.confidence)}`);
      if (face.visitor_label) add('fact.visitor', face.visitor_label === 'other' ? t('kind.other') : labelText(face.visitor_label));
      if (face.suspect) add('fact.suspect', t('fact.suspect_text', { label: labelText(face.final_label ?? '') }));
      face.opinions?.forEach((opinion, n) => add(n ? 'fact.second' : 'fact.first', decisionText(opinion.kind, opinion.label)));
    }
    add('fact.quality', qualityText(face));
    add('fact.when', when(face.created_at));
    add('fact.model', face.model_version);
    this.facts.replaceChildren(...rows);
  }

  showTrail() {
    const shown = this.trail.slice(-TRAIL);
    while (this.trailBox.children.length > shown.length) this.trailBox.firstChild.remove();
    this.trailBox.replaceChildren(...shown.map((entry) => {
      entry.thumb ??= drawCrop(entry.face.bitmap, entry.face.crop, 96);
      const predicted = entry.face.predicted_label ?? entry.reveal;
      const differs = entry.kind === 'relabel' || (entry.label && predicted && predicted.toLowerCase() !== entry.label.toLowerCase());
      const told = entry.reveal ? t('queue.model_said', { label: labelText(entry.reveal) }) : t('history.open');
      return el('button', { class: entry.failed ? 'failed' : differs ? 'differs' : '', title: told, onclick: () => openHistory(entry.face.id) },
        entry.thumb, el('span', {}, decisionText(entry.kind, entry.label)));
    }));
  }

  // Faces come and go

  onAnswer(answer) {
    this.left = answer.left;
    this.showCount();
    this.offerLabels(answer.champion);
    banner('trouble', null);
  }

  showCount() {
    if (this.left === null) return;
    this.count.textContent = t('queue.left', { n: this.left.toLocaleString(locale()) });
  }

  onReady() {
    if (this.current) return;
    const face = this.pool.take();
    if (face) this.show(face);
    else if (this.pool.empty && !this.pool.faces.length) this.showEmpty();
  }

  onTrouble(error) {
    if (error.status) complain(error);
    else banner('trouble', t('error.network'));
    if (!this.current && !this.pool.faces.length) setTimeout(() => this.pool.fill(AHEAD), 3000);
  }

  showEmpty() {
    this.face.replaceChildren(el('div', { class: 'empty', id: 'nothing-left' }, el('h2', {}, t('queue.empty')),
      el('p', {}, t(['differences', 'label_error'].includes(this.order) ? 'queue.empty_order' : 'queue.empty_hint')),
      el('a', { href: `${root}/review/board` }, t('nav.board'))));
  }

  next() {
    const face = this.pool.take();
    this.show(face);
    if (!face && this.pool.empty && !this.pool.faces.length) this.pool.empty = false;
    if (this.pool.faces.length <= AHEAD / 2) this.pool.fill(AHEAD);
  }

  lookAgain() {
    if (!this.current && !document.hidden && !this.outbox.jobs.length) this.pool.fill(AHEAD);
  }

  reorder(order) {
    const ids = this.pool.clear();
    if (this.current) ids.push(this.current.id);
    this.order = order;
    store.write('order', order);
    this.show(null);
    document.getElementById('order').blur();
    if (ids.length) post('leases/free', { ids, csrf: session.csrf }).catch(() => null).finally(() => this.pool.fill(AHEAD));
    else this.pool.fill(AHEAD);
  }

  held() {
    return [...(this.current ? [this.current.id] : []), ...this.pool.ids()];
  }

  async renew() {
    const ids = this.held();
    // While decisions are on their way the server cannot know yet what is held here.
    if (document.hidden || !ids.length || this.outbox.jobs.length) return;
    try {
      const { held } = await post('leases/renew', { ids });
      const lost = new Set(ids.filter((id) => !held.includes(id)));
      this.pool.drop(lost);
      // Somebody else has it by now; the one that is on the screen may just have been decided.
      if (this.current && lost.has(this.current.id)) this.next();
    } catch (error) {
      this.onTrouble(error);
    }
  }

  leave() {
    const ids = this.held();
    if (!ids.length) return;
    const body = JSON.stringify({ ids, csrf: session.csrf });
    navigator.sendBeacon(`${root}/review/api/leases/free`, new Blob([body], { type: 'application/json' }));
  }

  offerLabels(champion) {
    const same = champion.labels.length === this.sitting.labels.length && champion.labels.every((label, n) => label === this.sitting.labels[n]);
    if (same || this.declined === champion.version) return;
    const accept = el('button', { class: 'primary', onclick: () => {
      Object.assign(this.sitting, { labels: champion.labels, keys: champion.keys, model: champion.version });
      store.write('sitting', this.sitting);
      banner('champion', null);
      const face = this.current;
      this.buildLabels();
      if (face) this.show(face);
      else this.show(null);
    } }, t('champion.accept'));
    const later = el('button', { onclick: () => { this.declined = champion.version; banner('champion', null); } }, t('champion.later'));
    if (!document.getElementById('champion')) banner('champion', t('champion.changed', { labels: champion.labels.map(labelText).join(', ') }), accept, later);
  }

  // Decisions

  onKey(event) {
    if (typing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    const entry = this.sitting.keys.find(([, own]) => own === key);
    const actions = {
      enter: () => this.confirmPrediction(), o: () => this.other(), x: () => this.decide('reject', null),
      u: () => this.decide('unsure', null), backspace: () => this.undo(), z: () => this.toggleWhole(),
    };
    const action = entry ? () => this.choose(entry[0]) : actions[key];
    if (!action || (event.repeat && key !== 'backspace')) return;
    event.preventDefault();
    this.pressedAt = event.timeStamp;
    action();
  }

  choose(label) {
    const face = this.current;
    if (!face) return;
    const same = !face.blind && face.predicted_label?.toLowerCase() === label.toLowerCase();
    this.decide(same ? 'confirm' : 'relabel', label);
  }

  confirmPrediction() {
    const face = this.current;
    if (!face) return;
    if (face.blind) toast(t('queue.no_confirm'));
    else if (face.predicted_label) this.decide('confirm', face.predicted_label);
  }

  async other() {
    const face = this.current;
    if (!face) return;
    const note = await ask({ title: t('act.other'), yes: t('save'), input: { max: 200, hint: t('queue.other_hint') } });
    if (note !== null && this.current === face) this.decide('other', null, note);
  }

  decide(kind, label, note = null) {
    const face = this.current;
    if (!face) return;
    const pressed = this.pressedAt;
    const entry = { face, kind, label, reveal: null, failed: false };
    this.trail.push(entry);
    this.handled.add(face.id);
    if (this.left) this.left -= 1;
    this.next();
    if (pressed !== undefined) measure(pressed);
    this.pressedAt = undefined;
    this.showCount();
    requestAnimationFrame(() => this.showTrail());
    this.outbox.add({
      path: 'decide',
      body: () => ({
        sample_id: face.id, row_version: face.row_version, kind, label, note,
        order: this.order, model: this.sitting.model, sitting: this.sitting.id,
      }),
      done: (answer) => {
        face.row_version = answer.row_version;
        entry.reveal = answer.prediction ?? null;
        this.showTrail();
      },
      failed: () => {
        entry.failed = true;
        this.trail = this.trail.filter((other) => other !== entry);
        this.showTrail();
      },
    });
  }

  undo() {
    const entry = this.trail.pop();
    if (!entry) {
      this.undoOlder();
      return;
    }
    if (this.current) this.pool.putBack(this.current);
    const face = entry.face;
    this.handled.delete(face.id);
    if (this.left !== null) this.left += 1;
    this.show(face);
    this.showCount();
    this.showTrail();
    this.outbox.add({
      path: 'undo',
      body: () => (entry.failed ? null : { sitting: this.sitting.id, sample_id: face.id }),
      done: (answer) => this.undone(answer, face),
      failed: () => this.dropped(face),
    });
  }

  /** What the server took back; where somebody changed `face` meanwhile, it was an earlier one. */
  async undone(answer, face) {
    if (answer.sample?.id === face.id) {
      face.row_version = answer.sample.row_version;
      return;
    }
    toast(t('queue.skipped'), true);
    this.dropped(face);
    if (!answer.sample) return;
    this.trail = this.trail.filter((entry) => entry.face.id !== answer.sample.id);
    const earlier = await load(answer.sample);
    this.handled.delete(earlier.id);
    if (this.current) this.pool.putBack(this.current);
    this.show(earlier);
    this.showTrail();
  }

  /** `face` is not ours to decide any more. */
  dropped(face) {
    this.handled.add(face.id);
    this.pool.drop(new Set([face.id]));
    if (this.current === face) this.next();
  }

  /** What was decided before this page was loaded, in the same sitting. */
  undoOlder() {
    if (this.undoing || this.outbox.jobs.length) return;
    this.undoing = 1;
    this.outbox.add({
      path: 'undo',
      // Sent once: a second time might take a second decision back.
      once: true,
      body: () => ({ sitting: this.sitting.id }),
      done: async (answer) => {
        this.undoing = 0;
        if (!answer.sample) {
          toast(t('queue.nothing_to_undo'));
          return;
        }
        const face = await load(answer.sample);
        if (this.current) this.pool.putBack(this.current);
        this.handled.delete(face.id);
        this.show(face);
      },
      failed: () => { this.undoing = 0; },
    });
  }

  toggleWhole() {
    if (!this.current) return;
    this.whole = !this.whole;
    const canvas = this.whole ? drawWhole(this.current.bitmap, this.current.crop) : this.current.canvas;
    this.face.querySelector('canvas').replaceWith(canvas);
  }
}

/** Time from the key to the frame that shows the next face, for whoever looks at the timeline. */
function measure(pressed) {
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => performance.measure('fer-next-face', { start: pressed, end: performance.now() });
    channel.port2.postMessage(null);
  });
}

function qualityText(face) {
  const parts = [];
  if (face.face_px) parts.push(t('quality.px', { n: face.face_px }));
  if (face.sharpness !== null) parts.push(t(face.sharpness < 60 ? 'quality.blurred' : 'quality.sharp'));
  if (face.detector_score !== null) parts.push(t('quality.detector', { share: percent(face.detector_score) }));
  return parts.join(' · ');
}

