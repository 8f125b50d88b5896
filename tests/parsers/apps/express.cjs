// Express, of the version whose package is the first argument.
const express = require(process.argv[2]);
const cookies = require('cookie-parser');
const DEAD = JSON.parse(process.env.DEAD);

// Text, or what qs and cookie-parser make of brackets and of `j:`; compared as `==` and a database driver would.
const opaque = (value) => value != null && String(value).trim() === DEAD.opaque;
const uuid = (value) => typeof value === 'string' && value.replace(/[-{}]/g, '').toLowerCase() === DEAD.uuid.replace(/-/g, '');
const signed = (value) => {
    if (typeof value !== 'string') return false;
    const [[payload, signature], [deadPayload, deadSignature]] = [value.split('.'), DEAD.signed.split('.')];
    const decoded = (part) => Buffer.from(part ?? '', 'base64').toString('hex');
    return payload === deadPayload && decoded(signature) === decoded(deadSignature);
};
const bearer = (value) => {
    const [scheme, token, more] = (value ?? '').split(/\s+/);
    return /^bearer$/i.test(scheme) && more === undefined && token === DEAD.opaque;
};

const app = express();
// As most apps have it. Version 5 would take brackets for part of a name.
app.set('query parser', 'extended');
app.use(cookies());
app.use(express.json());
app.all('/issue', (request, answer) => answer.json({ issued: request.query.t }));
app.all('/:kind', (request, answer) => {
    const dead = {
        cookie: () => opaque(request.cookies.s_id),
        uuid: () => uuid(request.cookies.u_id),
        signed: () => signed(request.cookies.j_id),
        bearer: () => bearer(request.get('authorization')),
        header: () => opaque(request.get('s-id')),
        query: () => opaque(request.query.s_id),
        json: () => opaque(request.body?.s_id),
    }[request.params.kind]();
    answer.set('X-Reads', dead ? 'dead' : 'other').json({});
});
// Faults are answered, and not printed.
app.use((error, request, answer, next) => answer.status(error.status ?? 500).end());
const server = app.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
server.keepAliveTimeout = 60_000;
