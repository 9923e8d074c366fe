//! A tunnel as an object, for programs (docs/up.md).

use std::net::IpAddr;

use config::discard;
use config::key::to_base64;
use config::trouble::{Failed, Refused, Turns, Unheard, Unreachable};
use host::plan::Item;
use serde_json::{Map, Value, json};

use super::{Peer, Tunnel, shown};
use crate::command::up::strays::Strays;

impl Tunnel {
    pub(super) fn json(&self) -> Value {
        let peers: Map<_, _> = self.peers().map(|peer| (peer.key(), peer.json())).collect();
        let addresses: Vec<_> = self
            .entries
            .iter()
            .filter_map(|entry| match &entry.item {
                Item::Address(_, address) => Some(address.to_string()),
                _ => None,
            })
            .collect();
        json!({
            "file": self.note.file,
            "since": self.note.since,
            "uptime": self.uptime(),
            "backend": self.backend(),
            "up": self.state.is_some(),
            "link": self.link.as_ref().map(|link| &link.name),
            "mtu": self.link.as_ref().map(|link| link.mtu),
            "addresses": addresses,
            "publicKey": self.public_key().map(|key| to_base64(&key.0).to_string()),
            "listenPort": self.state.as_ref().map(|state| state.listen_port),
            "fwmark": self.state.as_ref().map(|state| state.fwmark),
            "guard": self.guard(),
            "dns": self.dns().map(|(servers, holds)| json!({ "servers": servers, "holds": holds })),
            "missing": self.missing(),
            "strays": self.strays.iter().map(json_of_strays).collect::<Vec<_>>(),
            "lastFailure": self.state.as_ref().and_then(|it| it.last_discard).map(discard::name),
            "refused": self.troubles.refused.iter().map(json_of_refused).collect::<Vec<_>>(),
            "keeper": self.keeper,
            "privileges": self.privileges.as_ref().map(|kept| kept.iter().map(|it| it.name()).collect::<Vec<_>>()),
            "peers": peers,
        })
    }
}

impl Peer<'_> {
    fn json(&self) -> Value {
        let state = self.state;
        let allowed_ips = state.allowed_ips.iter().map(ToString::to_string);
        json!({
            "name": self.name,
            "endpoint": state.endpoint.map(shown),
            "endpointInFile": self.written,
            "latestHandshake": state.last_handshake.map(|time| time.as_secs()),
            "allowedIps": allowed_ips.collect::<Vec<_>>(),
            "persistentKeepalive": state.persistent_keepalive,
            "transferRx": state.rx_bytes,
            "transferTx": state.tx_bytes,
            "handshaked": self.lights.handshaked,
            "receives": self.lights.receives,
            "isAnswered": self.lights.is_answered,
            "unansweredSince": self.unanswered_since,
            "lastFailure": state.last_discard.map(discard::name),
            "failed": self.trouble.and_then(|it| it.failed.as_ref()).map(json_of_failed),
            "refusedSource": self.trouble.and_then(|it| it.source),
            "unreachable": self.trouble.and_then(|it| it.unreachable.as_ref()).map(json_of_unreachable),
            "unheard": self.trouble.and_then(|it| it.unheard.as_ref()).map(json_of_unheard),
            "turns": self.trouble.and_then(|it| it.turns.as_ref()).map(json_of_turns),
        })
    }
}

fn json_of_strays(Strays { setting, dropped, are_let }: &Strays) -> Value {
    json!({ "setting": setting, "dropped": dropped, "hooks": are_let })
}

fn json_of_turns(Turns { other, count, last }: &Turns) -> Value {
    json!({ "with": shown(*other), "count": count, "last": last.as_secs() })
}

fn json_of_unheard(Unheard { count, last }: &Unheard) -> Value {
    json!({ "count": count, "last": last.as_secs() })
}

fn json_of_refused(refused: &Refused) -> Value {
    json!({
        "reason": discard::name(refused.reason),
        "from": shown(refused.from),
        "publicKey": refused.key.map(|key| to_base64(&key.0).to_string()),
        "count": refused.count,
        "last": refused.last.as_secs(),
    })
}

fn json_of_failed(Failed { from, count, last }: &Failed) -> Value {
    json!({ "from": shown(*from), "count": count, "last": last.as_secs() })
}

fn json_of_unreachable(Unreachable { obstacle, by, last }: &Unreachable) -> Value {
    json!({
        "obstacle": obstacle.name(),
        "by": by.as_ref().map(IpAddr::to_string),
        "last": last.as_secs(),
    })
}
