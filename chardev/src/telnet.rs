//! The telnet protocol, as much as a serial console needs (RFC 854, 856 to 858).

/// Begins every command.
const IAC: u8 = 255;
const DO: u8 = 253;
const WILL: u8 = 251;
/// Begins a subnegotiation, which [`SE`] ends.
const SB: u8 = 250;
const SE: u8 = 240;
const BREAK: u8 = 243;
const OPTION_BINARY: u8 = 0;
const OPTION_ECHO: u8 = 1;
const OPTION_SUPPRESS_GO_AHEAD: u8 = 3;

/// What the server says first: it echoes, a character at a time, eight bits clean.
#[rustfmt::skip]
pub(crate) const GREETING: [u8; 12] = [
    IAC, WILL, OPTION_ECHO,
    IAC, WILL, OPTION_SUPPRESS_GO_AHEAD,
    IAC, WILL, OPTION_BINARY,
    IAC, DO, OPTION_BINARY,
];

/// Where in the stream the parser is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Data,
    Command,
    /// The option that a WILL, WONT, DO or DONT is about follows.
    Option,
    Subnegotiation,
    SubnegotiationCommand,
}

/// Takes the commands out of what a client sends.
#[derive(Debug, Default)]
pub(crate) struct Telnet {
    state: State,
}

/// A piece of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Data(Vec<u8>),
    Break,
}

impl Telnet {
    pub fn parse(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Data, IAC) => State::Command,
                (State::Data, _) | (State::Command, IAC) => {
                    match pieces.last_mut() {
                        Some(Piece::Data(data)) => data.push(byte),
                        _ => pieces.push(Piece::Data(vec![byte])),
                    }
                    State::Data
                }
                (State::Command, BREAK) => {
                    pieces.push(Piece::Break);
                    State::Data
                }
                (State::Command, WILL..=254) => State::Option,
                (State::Command, SB) => State::Subnegotiation,
                (State::Command | State::Option, _) | (State::SubnegotiationCommand, SE) => State::Data,
                (State::Subnegotiation, IAC) => State::SubnegotiationCommand,
                (State::Subnegotiation | State::SubnegotiationCommand, _) => State::Subnegotiation,
            };
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Piece {
        Piece::Data(text.into())
    }

    #[test]
    fn commands_are_taken_out_wherever_reads_cut_the_stream() {
        let stream =
            [b"ab", &GREETING[..], b"c", &[IAC, SB, 24, 0, IAC, SE], b"d", &[IAC, 241], b"e"].concat();
        for cut in 0..stream.len() {
            let mut telnet = Telnet::default();
            let mut text = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                for piece in telnet.parse(part) {
                    let Piece::Data(data) = piece else { panic!("no break was sent") };
                    text.extend(data);
                }
            }
            assert_eq!(text, b"abcde", "cut at {cut}");
        }
    }

    #[test]
    fn a_break_comes_in_its_place_and_a_doubled_iac_is_data() {
        let mut telnet = Telnet::default();
        assert_eq!(telnet.parse(b"a\xff\xf3b"), [data("a"), Piece::Break, data("b")]);
        assert_eq!(telnet.parse(b"\xff\xff"), [Piece::Data(vec![0xff])]);
    }
}
