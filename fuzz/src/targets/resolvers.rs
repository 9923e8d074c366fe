//! What name servers, the bus, ICMP, and the files of others say.

pub fn run(bytes: &[u8]) {
    host::readers::resolvers(bytes);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut answer =
        b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03vpn\x07example\0\0\x01\0\x01".to_vec();
    answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
    let mut reply = b"l\x03\x01\x01\x07\0\0\0\x09\0\0\0\x37\0\0\0".to_vec();
    reply.extend(b"\x04\x01s\0\x11\0\0\0org.example.Error\0\0\0\0\0\0\0\x05\x01u\0\x07\0\0\0");
    reply.extend(b"\x08\x01g\0\x01s\0\0\x02\0\0\0no\0");
    // That nothing listens on a port, by ICMP, with the headers that it is about.
    let mut unreachable = vec![0x45; 20];
    unreachable.extend(
        b"\x03\x03\0\0\0\0\0\0\x45\0\0\xb0\0\0\0\0\x40\x11\0\0\xc0\0\x02\x02\xc0\0\x02\x01",
    );
    unreachable.extend(b"\xca\x6c\xca\x6c\0\x9c\0\0");
    vec![
        answer,
        reply,
        unreachable,
        b"# made by us\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch example\n".to_vec(),
        b"wg0 0123\n\tnameserver 10.0.0.1\nwg1 0123\n\tsearch a b\n".to_vec(),
        b"254 main # the usual one\n0x10\tmine\n".to_vec(),
        b"hosts: files resolve [!UNAVAIL=return] dns\n".to_vec(),
    ]
}
