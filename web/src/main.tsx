import '@fontsource-variable/geist/wght.css';
import '@fontsource-variable/geist-mono/wght.css';
import './styles/index.css';
import { render } from 'preact';
import './state/theme';
import { App } from './views/app';

render(<App />, document.getElementById('app')!);
