// The chat page for a kit: upstream's sources without the parts that an offline page served from localhost must not have,
// that is a service worker (it would go on serving one program's page on the port of the next), splash screens and
// suggestions of servers on other hosts; and with the page's own tools off at first. Writes the list of what was bundled to MKLLM_WEB_BUNDLED, for the licences.
import { writeThemeFavicons } from './scripts/favicon-colorize';
import { nerdamerPlugin } from './scripts/vite-plugin-nerdamer';
import { sveltekit } from '@sveltejs/kit/vite';
import tailwindcss from '@tailwindcss/vite';
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { defineConfig, type Plugin } from 'vite';

const WITHOUT_PWA: Record<string, string> = {
	'virtual:pwa-assets/head': 'export const pwaAssetsHead = { links: [], themeColor: null };',
	'virtual:pwa-register/svelte': `
		const never = { subscribe: (run) => { run(false); return () => {}; }, set: () => {}, update: () => {} };
		export const useRegisterSW = () =>
			({ needRefresh: never, offlineReady: never, updateServiceWorker: async () => {} });`
};

function withoutPwa(): Plugin {
	return {
		name: 'mkllm:without-pwa',
		enforce: 'pre',
		resolveId: (id) => (id in WITHOUT_PWA ? '\0' + id : undefined),
		load: (id) => WITHOUT_PWA[id.slice(1)]
	};
}

function withoutSuggestions(): Plugin {
	return {
		name: 'mkllm:without-suggestions',
		enforce: 'pre',
		transform: (code, id) =>
			id.endsWith('/recommended-mcp-servers.constants.ts') ? 'export const RECOMMENDED_MCP_SERVERS = [];' : undefined
	};
}

// The page's own tools (the time, facts about the browser) go with every question unless they are switched off. Models
// that have not learned to call tools answer worse for it, and small contexts are half full. Here they are off until
// somebody switches them on.
const TOOLS_ON = 'private _disabledToolCategories = $state(new SvelteSet<ToolSource>());';
const TOOLS_OFF = `private _disabledToolCategories = $state(
	new SvelteSet<ToolSource>(
		browser && localStorage.getItem(DISABLED_TOOL_CATEGORIES_LOCALSTORAGE_KEY) === null ? [ToolSource.BROWSER] : []
	)
);`;

function toolsOff(): Plugin {
	return {
		name: 'mkllm:tools-off',
		enforce: 'pre',
		transform(code, id) {
			if (!id.endsWith('/lib/stores/tools.svelte.ts')) return;
			if (!code.includes(TOOLS_ON)) this.error('upstream keeps disabled tools in another way now: change TOOLS_ON');
			return code.replace(TOOLS_ON, () => TOOLS_OFF);
		}
	};
}

function listBundled(): Plugin {
	return {
		name: 'mkllm:list-bundled',
		apply: 'build',
		generateBundle() {
			if (this.environment.name !== 'client') return;
			const files = new Set([...this.getModuleIds(), ...this.getWatchFiles()]);
			const clean = [...files].map((id) => id.replace(/^\0/, '').replace(/\?.*$/, ''));
			writeFileSync(process.env.MKLLM_WEB_BUNDLED!, JSON.stringify([...new Set(clean)].sort()));
		}
	};
}

writeThemeFavicons('#111111', '#fafafa', { padding: 0.04 });

export default defineConfig({
	build: { assetsInlineLimit: 32000, chunkSizeWarningLimit: 16384, minify: true, sourcemap: false },
	plugins: [
		tailwindcss(),
		withoutPwa(),
		withoutSuggestions(),
		toolsOff(),
		sveltekit(),
		nerdamerPlugin(),
		listBundled()
	],
	resolve: { alias: { 'katex-fonts': resolve('node_modules/katex/dist/fonts') } }
});
