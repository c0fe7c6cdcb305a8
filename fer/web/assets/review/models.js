// Admins: which version serves, the runs so far, and a run now.

import { ask, complain, el, get, percent, post, t, toast, when } from './base.js';
import { lossCurves } from './charts.js';

const POLL_MS = 2000;

export class ModelsPage {
  constructor(view) {
    this.view = view;
    this.load();
  }

  close() {
    clearTimeout(this.timer);
    this.closed = true;
  }

  async load() {
    clearTimeout(this.timer);
    let answer;
    try {
      answer = await get('models');
    } catch (error) {
      complain(error);
      return;
    }
    if (this.closed) return;
    this.view.replaceChildren(el('div', { class: 'board' }, this.versions(answer), this.now(answer.job), this.runs(answer.runs)));
    if (answer.job.running) this.timer = setTimeout(() => this.load(), POLL_MS);
  }

  panel(title, tools, ...content) {
    return el('section', { class: 'panel all' }, el('header', {}, el('h2', {}, title), el('span', { class: 'tools' }, tools)), ...content);
  }

  versions(answer) {
    const rows = answer.versions.map((one) => el('tr', { 'data-version': one.version },
      el('td', {}, one.version, ' ', one.champion ? el('span', { class: 'chip good' }, t('models.serves')) : null, one.is_default ? el('span', { class: 'chip' }, t('models.shipped')) : null),
      el('td', {}, one.labels ? one.labels.length : '–'),
      el('td', { class: 'n' }, one.accuracy === null ? '–' : percent(one.accuracy)),
      el('td', { class: 'when' }, when(one.created_at)),
      el('td', { class: 'n' }, one.champion || one.problem ? one.problem ?? '' : el('button', { onclick: () => this.promote(one.version, answer.champion) }, t('models.promote')))));
    const head = el('tr', {}, ...['models.version', 'models.labels', 'models.accuracy', 'models.made'].map((key) => el('th', {}, t(key))), el('th', {}));
    const back = el('button', { disabled: !answer.can_roll_back, onclick: () => this.rollBack(answer.previous) }, t('models.roll_back'));
    if (!rows.length) return this.panel(t('models.title'), [], el('p', { class: 'quiet' }, t('models.none')));
    return this.panel(t('models.title'), [back], el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, head), el('tbody', {}, rows))));
  }

  async promote(version, champion) {
    const text = t('models.promote_sure', { version, champion: champion ?? '–' });
    if (await ask({ title: t('models.promote'), text, yes: t('models.promote') }) === null) return;
    await this.change('models/promote', { version });
  }

  async rollBack(previous) {
    if (await ask({ title: t('models.roll_back'), text: t('models.roll_back_sure', { version: previous }), yes: t('models.roll_back') }) === null) return;
    await this.change('models/rollback', {});
  }

  async change(path, body) {
    try {
      const answer = await post(path, body);
      if (answer.champion) toast(t('models.now_serves', { version: answer.champion }));
    } catch (error) {
      complain(error);
    }
    this.load();
  }

  now(job) {
    const start = el('button', { class: 'primary', id: 'retrain', disabled: job.running || !job.available, onclick: () => this.change('retrain', {}) }, t('models.retrain'));
    const state = !job.available ? t('models.unavailable') : job.running ? t('models.running', { when: when(job.started_at) })
      : job.started_at ? t(job.exit_code === 0 ? 'models.ended' : 'models.failed', { when: when(job.started_at), code: job.exit_code ?? '–' }) : t('models.idle');
    const content = [el('p', { id: 'job' }, state)];
    if (job.running) content.push(job.share === null ? el('progress', {}) : el('progress', { max: 1, value: job.share }));
    if (job.lines.length) content.push(el('pre', { class: 'log' }, job.lines.join('\n')));
    return this.panel(t('models.retrain_title'), [start], ...content);
  }

  runs(runs) {
    if (!runs.length) return this.panel(t('models.runs'), [], el('p', { class: 'quiet' }, t('models.no_runs')));
    const head = el('tr', {}, ...['models.started', 'models.outcome', 'models.challenger', 'models.curve', 'models.reason'].map((key) => el('th', {}, t(key))));
    const tone = { promoted: 'good', kept: 'warn', failed: 'bad' };
    const rows = runs.map((run) => el('tr', {}, el('td', {}, when(run.started_at)),
      el('td', {}, el('span', { class: `chip ${tone[run.outcome] ?? ''}` }, run.outcome ?? t('models.unfinished'))),
      el('td', {}, run.challenger ?? '–'), el('td', {}, lossCurves(run.curve, run.fold_curves)), el('td', {}, run.reason ?? '')));
    return this.panel(t('models.runs'), [], el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, head), el('tbody', {}, rows))));
  }
}
