// phone.cjs - a phone in a browser: JsSIP on Node.js, over a WebSocket of the package ws, without media
//
// The first line on standard input is its configuration, each further one a command; it prints an
// event a line, as JSON, and ends with its standard input. Its argument is the folder with node_modules.
'use strict';
const load = require('module').createRequire(process.argv[2] + '/');

// what JsSIP wants of a browser. No answer has media, so nobody needs a microphone
class PeerConnection extends EventTarget {
  iceGatheringState = 'complete';
  iceConnectionState = 'completed';
  signalingState = 'stable';
  createOffer() { return Promise.resolve({ type: 'offer', sdp: SDP }); }
  createAnswer() { return Promise.resolve({ type: 'answer', sdp: SDP }); }
  setLocalDescription(d) { this.localDescription = d; return Promise.resolve(); }
  setRemoteDescription(d) { this.remoteDescription = d; return Promise.resolve(); }
  getSenders() { return []; }
  close() { this.signalingState = 'closed'; }
}
const SDP = ['v=0', 'o=- 1 1 IN IP4 127.0.0.1', 's=-', 'c=IN IP4 127.0.0.1', 't=0 0',
  'm=audio 9 RTP/AVP 0', 'a=rtpmap:0 PCMU/8000', 'a=inactive', ''].join('\r\n');
Object.assign(globalThis, {
  window: globalThis, WebSocket: load('ws'), RTCPeerConnection: PeerConnection,
  RTCSessionDescription: class { constructor(d) { Object.assign(this, d); } },
});
const JsSIP = load('jssip');

const tell = (event, more) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n');
let ua, session;

function start(config) {
  const settings = {
    uri: config.uri, sockets: [new JsSIP.WebSocketInterface(config.server)], instance_id: config.instance,
    register: false, session_timers: false,
  };
  if (config.in_uri) {
    // an own Contact, with another .invalid at each start, as JsSIP makes them
    const name = () => JsSIP.Utils.createRandomToken(12);
    const params = Object.entries(config.push).map(([k, v]) => `;${k}=${v}`).join('');
    settings.contact_uri = `sip:${name()}@${name()}.invalid;transport=ws${params}`;
  }
  ua = new JsSIP.UA(settings);
  if (!config.in_uri) ua.registrator().setExtraContactParams(config.push);
  ua.on('connected', () => ua.register());
  ua.on('registered', () => {
    // a library that knows nothing of GRUUs: its calls have the .invalid in their Contact
    if (config.no_gruu) ua.contact.pub_gruu = null;
    tell('registered', { host: ua.contact.uri.host });
  });
  ua.on('registrationFailed', (e) => tell('failed', { cause: 'REGISTER: ' + e.cause }));
  ua.on('newRTCSession', (e) => {
    session = e.session;
    tell('ringing');
    session.on('confirmed', (e) => tell('confirmed', { originator: e.originator }));
    session.on('ended', (e) => tell('ended', { originator: e.originator, cause: e.cause }));
    session.on('failed', (e) => tell('failed', { originator: e.originator, cause: e.cause }));
    session.answer({ mediaConstraints: { audio: false, video: false } });
  });
  ua.start();
}

const lines = require('readline').createInterface({ input: process.stdin });
lines.once('line', (line) => {
  start(JSON.parse(line));
  lines.on('line', (command) => { if (command === 'hangup') session.terminate(); });
});
lines.on('close', () => process.exit(0));
