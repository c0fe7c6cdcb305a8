// Starts the console: who is here, which page, and what all pages share.

import { complain, el, get, innerPath, labelText, root, session, t, typing } from './base.js';
import { Outbox } from './outbox.js';
import { store, takeSeat } from './sitting.js';
import { QueuePage } from './queue.js';
import { GridPage } from './grid.js';
import { BoardPage } from './board.js';
import { ModelsPage } from './models.js';
import { closeHistory } from './history.js';

const PAGES = { '/review': QueuePage, '/review/grid': GridPage, '/review/board': BoardPage, '/review/models': ModelsPage };
const NAMES = { '/review': 'nav.queue', '/review/grid': 'nav.grid', '/review/board': 'nav.board', '/review/models': 'nav.models' };

let page = null;
let outbox = null;

function go(path, push) {
  closeHistory();
  page?.close?.();
  if (push) history.pushState(null, '', root + path);
  document.title = `${t(NAMES[path])} · ${t('console.title')}`;
  for (const link of document.querySelectorAll('#nav a')) {
    if (link.dataset.path === path) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const view = document.getElementById('view');
  view.replaceChildren();
  page = new PAGES[path](view, outbox);
}

function build() {
  const paths = Object.keys(PAGES).filter((path) => path !== '/review/models' || session.role === 'admin');
  document.getElementById('nav').replaceChildren(...paths.map((path) => el('a', { href: root + path, 'data-path': path }, t(NAMES[path]))));
  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('a[href]');
    if (!link || link.target || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const path = link.getAttribute('href').slice(root.length);
    if (!(path in PAGES)) return;
    event.preventDefault();
    go(path, true);
  });
  addEventListener('popstate', () => go(innerPath() in PAGES ? innerPath() : '/review', false));
  const out = el('form', { method: 'post', action: `${root}/sign-out`, onsubmit: () => store.clear() },
    el('input', { type: 'hidden', name: 'csrf', value: session.csrf }), el('button', {}, t('sign_out')));
  const languages = Object.entries(session.languages).filter(([code]) => code !== session.language)
    .map(([code, name]) => el('a', { href: `?lang=${code}`, lang: code, title: name, target: '_self' }, code.toUpperCase()));
  document.getElementById('who').replaceChildren(...languages, el('span', {}, session.name),
    el('button', { 'aria-label': t('help.title'), title: t('help.title'), onclick: help }, '?'), out);
  addEventListener('keydown', (event) => {
    if (event.key === '?' && !typing(event)) {
      event.preventDefault();
      help();
    }
  });
}

function help() {
  const dialog = document.getElementById('help');
  const keys = session.sitting.keys.map(([label, key]) => [key.toUpperCase(), labelText(label)]);
  const rest = [['Enter', 'act.confirm'], ['O', 'act.other'], ['X', 'act.reject'], ['U', 'act.unsure'], ['Backspace', 'act.undo_long'], ['Z', 'act.whole'], ['?', 'help.title']]
    .map(([key, text]) => [key, t(text)]);
  const grid = [['← ↑ → ↓', 'help.move'], ['Space', 'help.select'], ['Shift', 'help.extend'], ['A', 'help.all'], ['Esc', 'help.none'], ['H', 'help.history']]
    .map(([key, text]) => [key, t(text)]);
  const list = (rows) => el('dl', {}, rows.map(([key, text]) => [el('dt', {}, el('kbd', {}, key)), el('dd', {}, text)]));
  dialog.replaceChildren(el('h2', {}, t('help.title')), list([...keys, ...rest]),
    el('h3', {}, t('help.grid')), list(grid),
    el('menu', {}, el('button', { class: 'primary', autofocus: true, onclick: () => dialog.close() }, t('close'))));
  dialog.showModal();
}

function showSync(waiting, broken) {
  const sync = document.getElementById('sync');
  sync.className = broken ? 'broken' : waiting ? 'waiting' : '';
  sync.textContent = broken ? t('sync.broken', { n: waiting }) : waiting > 1 ? t('sync.waiting', { n: waiting }) : waiting ? t('sync.one') : t('sync.saved');
}

async function start() {
  try {
    Object.assign(session, await get('session'));
  } catch (error) {
    complain(error);
    return;
  }
  session.sitting = takeSeat();
  outbox = new Outbox(showSync);
  build();
  go(innerPath() in PAGES ? innerPath() : '/review', false);
}

start();
