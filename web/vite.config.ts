import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/* The client module lives beside the page and shares the page's copy of `centrifuge`, so that one build holds one copy. */
export default defineConfig({
  resolve: {
    alias: { '@kith/client': here('../sdk/js/src/index.ts'), centrifuge: here('node_modules/centrifuge') },
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  server: { fs: { allow: [here('..')] } },
  test: { environment: 'jsdom', include: ['test/**/*.test.ts', 'test/**/*.test.tsx'] },
});
