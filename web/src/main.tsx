import { render } from 'preact';
import { start } from './app';
import { connect, openStore } from './client';
import { loadAnswers } from './md/load';
import { watchPrefs } from './prefs';
import { Page } from './ui/page';

const root = document.getElementById('app');
if (root === null) throw new Error('the page has no #app');
watchPrefs();
if (location.hash.startsWith('#c_')) void loadAnswers();
const store = openStore();
/* What this browser knows from the last visit is read before the first frame, so that nothing flashes. */
await start(connect(store), store);
root.replaceChildren();
render(<Page />, root);
