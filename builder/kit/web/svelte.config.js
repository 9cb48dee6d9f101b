// How the chat page is built for a kit: one folder of static files, the same bytes from the same sources.
import adapter from '@sveltejs/adapter-static';
import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';
import { mdsvex } from 'mdsvex';

const out = process.env.MKLLM_WEB_OUT;

export default {
	extensions: ['.svelte', '.svx'],
	kit: {
		adapter: adapter({ assets: out, fallback: 'index.html', pages: out, precompress: false, strict: true }),
		// As upstream does: split, its modules import each other in circles across chunks.
		output: { bundleStrategy: 'single' },
		paths: { relative: true },
		router: { type: 'hash' },
		// By default the time of the build, which would change the bytes every time.
		version: { name: 'mkllm' }
	},
	preprocess: [vitePreprocess(), mdsvex()]
};
