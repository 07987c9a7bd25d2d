// samlp, the library behind Auth0's SAML responses, as an identity provider for tests.
//
//     node idp.js PORT CERTIFICATES
//
// The directory holds service.crt, the certificate that assertions are encrypted to, and keys.json, which names what is
// signed with and which certificates the metadata lists, and is read at every request. A name stands for NAME.key and
// NAME.crt.
'use strict';

const fs = require('fs');
const path = require('path');
const { X509Certificate } = require('crypto');
const express = require('express');
const samlp = require('samlp');

const ACS = 'https://gw.example/cgi/samlauth';
const CLAIMS = 'http://schemas.xmlsoap.org/ws/2005/05/identity/claims';
const XMLENC = 'http://www.w3.org/2001/04/xmlenc#';
const XMLENC11 = 'http://www.w3.org/2009/xmlenc11#';

const port = Number(process.argv[2]);
const read = (name) => fs.readFileSync(path.join(process.argv[3], name));

const users = {
  alice: { password: 'wonder', upn: 'alice@corp.example' },
  bob: { password: 'builder', upn: 'bob@corp.example' },
  carol: { password: 'singer', upn: 'carol@corp.example' },
  dave: { password: 'diver', upn: 'dave@corp.example' },
};

function profileMapper(user) {
  return {
    getClaims: () => ({
      [`${CLAIMS}/upn`]: user.upn,
      [`${CLAIMS}/emailaddress`]: user.upn,
      'http://schemas.xmlsoap.org/claims/Group': ['staff', 'citrix-users'],
    }),
    getNameIdentifier: () => ({
      nameIdentifier: user.upn,
      nameIdentifierFormat: 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress',
    }),
  };
}
profileMapper.prototype.metadata = [];

const service = read('service.crt');
const encrypted = (encryptionAlgorithm) => ({
  encryptionCert: service,
  encryptionPublicKey: new X509Certificate(service).publicKey.export({ type: 'spki', format: 'pem' }),
  encryptionAlgorithm,
  disallowEncryptionWithInsecureAlgorithm: false,
});

const forms = {
  'assertion-signed': {},
  'response-signed': { signAssertion: false, signResponse: true },
  'both-signed': { signResponse: true },
  'encrypted-cbc': encrypted(`${XMLENC}aes256-cbc`),
  'encrypted-gcm': encrypted(`${XMLENC11}aes256-gcm`),
  'encrypted-response-signed': { ...encrypted(`${XMLENC11}aes256-gcm`), signAssertion: false, signResponse: true },
  'sha1': { signatureAlgorithm: 'rsa-sha1', digestAlgorithm: 'sha1', signResponse: true },
};

const issuer = 'urn:example:idp:samlp';
const keys = () => JSON.parse(read('keys.json'));
const certificate = (name) => read(`${name}.crt`);

const app = express();
app.use(express.urlencoded({ extended: false }));

const page = (req) =>
  `<form method="post" action="${req.originalUrl.replace(/&/g, '&amp;')}">` +
  '<input type="text" name="username"><input type="password" name="password"><button>Sign in</button></form>';

app.get('/sso', (req, res) => res.send(page(req)));

app.post('/sso', (req, res, next) => {
  const user = users[req.body.username];
  const form = forms[req.query.form || 'assertion-signed'];
  if (!form) return res.status(404).send('no such form of response');
  if (!user || user.password !== req.body.password) return res.status(401).send(page(req));
  const { signing } = keys();
  return samlp.auth({
    issuer,
    cert: certificate(signing),
    key: read(`${signing}.key`),
    profileMapper,
    getUserFromRequest: () => user,
    getPostURL: (audience, request, _req, done) => done(null, ACS),
    destination: ACS,
    recipient: ACS,
    lifetimeInSeconds: 300,
    ...form,
  })(req, res, next);
});

const KEY_DESCRIPTOR = /<KeyDescriptor use="signing">[^]*?<\/KeyDescriptor>/;
const describe = (name) => (element) =>
  element.replace(/(<X509Certificate>)[^<]*/, `$1${new X509Certificate(certificate(name)).raw.toString('base64')}`);

// samlp lists one certificate; each further one is listed the same way.
app.get('/metadata', (req, res, next) => {
  const { listed } = keys();
  const send = res.send.bind(res);
  res.send = (body) => send(body.replace(KEY_DESCRIPTOR, (one) => listed.map((name) => describe(name)(one)).join('')));
  return samlp.metadata({
    issuer,
    cert: certificate(listed[0]),
    profileMapper,
    redirectEndpointPath: '/sso',
    postEndpointPath: '/sso',
  })(req, res, next);
});

app.listen(port, '127.0.0.1');
