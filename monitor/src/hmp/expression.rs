//! Numbers as users of the monitor write them: sums of products of numbers.

/// How deep parentheses and signs may nest.
const MAX_DEPTH: u32 = 100;

/// The value of a CPU's register, if there is one of that name.
pub(crate) type Registers<'a> = &'a dyn Fn(&str) -> Option<u64>;

/// Reads an expression from the start of `text`: `+ -` over `& | ^` over `* / %` over signs, `~` and
/// parentheses, of decimal, octal (`0…`) and hexadecimal numbers, `'c'` and `$register`. Gives the value and what
/// follows.
///
/// # Errors
/// Says what is wrong, in QEMU's words.
pub(crate) fn parse<'a>(text: &'a str, registers: Registers<'_>) -> Result<(u64, &'a str), String> {
    let mut parser = Parser { rest: text.trim_start(), depth: 0, registers };
    let value = parser.sum()?;
    Ok((value as u64, parser.rest))
}

struct Parser<'a, 'r> {
    rest: &'a str,
    depth: u32,
    registers: Registers<'r>,
}

impl Parser<'_, '_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Goes past the next character and the white space behind it.
    fn advance(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str().trim_start();
    }

    /// The next character, if it is one of `operators`.
    fn operator(&mut self, operators: &str) -> Option<char> {
        let found = self.peek().filter(|c| operators.contains(*c));
        if found.is_some() {
            self.advance();
        }
        found
    }

    fn sum(&mut self) -> Result<i64, String> {
        let mut value = self.logic()?;
        while let Some(operator) = self.operator("+-") {
            let next = self.logic()?;
            value = if operator == '+' { value.wrapping_add(next) } else { value.wrapping_sub(next) };
        }
        Ok(value)
    }

    fn logic(&mut self) -> Result<i64, String> {
        let mut value = self.product()?;
        while let Some(operator) = self.operator("&|^") {
            let next = self.product()?;
            value = match operator {
                '&' => value & next,
                '|' => value | next,
                _ => value ^ next,
            };
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<i64, String> {
        let mut value = self.unary()?;
        while let Some(operator) = self.operator("*/%") {
            let next = self.unary()?;
            let quotient = match operator {
                '*' => Some(value.wrapping_mul(next)),
                '/' if next != 0 => Some(value.wrapping_div(next)),
                '%' if next != 0 => Some(value.wrapping_rem(next)),
                _ => None,
            };
            value = quotient.ok_or("division by zero")?;
        }
        Ok(value)
    }

    fn unary(&mut self) -> Result<i64, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("expression too deep".to_owned());
        }
        let value = match self.operator("+-~(") {
            Some('+') => self.unary()?,
            Some('-') => self.unary()?.wrapping_neg(),
            Some('~') => !self.unary()?,
            Some(_) => {
                let value = self.sum()?;
                self.operator(")").ok_or("')' expected")?;
                value
            }
            None => self.primary()?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn primary(&mut self) -> Result<i64, String> {
        match self.peek() {
            None => Err("unexpected end of expression".to_owned()),
            Some('\'') => self.character(),
            Some('$') => self.register(),
            Some(c) if c.is_ascii_digit() => self.number(),
            Some(c) => Err(format!("invalid char '{c}' in expression")),
        }
    }

    fn character(&mut self) -> Result<i64, String> {
        let mut chars = self.rest.chars().skip(1);
        let value = chars.next().ok_or("character constant expected")?;
        if chars.next() != Some('\'') {
            return Err("missing terminating ' character".to_owned());
        }
        let len = 2 + value.len_utf8();
        self.rest = self.rest.get(len..).unwrap_or_default().trim_start();
        Ok(u32::from(value).into())
    }

    fn register(&mut self) -> Result<i64, String> {
        let text = self.rest.strip_prefix('$').unwrap_or_default();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let (name, rest) = text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()));
        self.rest = rest.trim_start();
        (self.registers)(name).map(|value| value as i64).ok_or_else(|| "unknown register".to_owned())
    }

    fn number(&mut self) -> Result<i64, String> {
        let (digits, radix) = match self.rest.strip_prefix("0x").or(self.rest.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None if self.rest.starts_with('0') => (self.rest, 8),
            None => (self.rest, 10),
        };
        let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        let (number, rest) = digits.split_at(end);
        if number.is_empty() {
            return Err("invalid char in expression".to_owned());
        }
        let value = u64::from_str_radix(number, radix).map_err(|_| "number too large")?;
        self.rest = rest.trim_start();
        Ok(value as i64)
    }
}

#[cfg(test)]
mod tests {
    fn parse(text: &str) -> Result<(u64, &str), String> {
        super::parse(text, &|name| (name == "cs.base").then_some(0xf_0000))
    }

    #[test]
    fn numbers_and_operators() {
        let value = |text| parse(text).map(|(value, _)| value);
        assert_eq!(value("1+2*3"), Ok(7));
        assert_eq!(value(" ( 1 + 2 ) * 3 "), Ok(9));
        assert_eq!(value("0x10 + 010 - 'a'"), Ok(-73_i64 as u64));
        assert_eq!(value("~0 & 0xff | 0x100"), Ok(0x1ff));
        assert_eq!(value("-1"), Ok(u64::MAX));
        assert_eq!(value("-0x8000000000000000 / -1"), Ok(1 << 63));
        assert_eq!(value("$cs.base +8"), Ok(0xf_0008));
        assert_eq!(parse("1 2"), Ok((1, "2")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("", "unexpected end of expression"),
            ("1/0", "division by zero"),
            ("1%(1-1)", "division by zero"),
            ("(1", "')' expected"),
            ("foo", "invalid char 'f' in expression"),
            ("$eip", "unknown register"),
            ("0x10000000000000000", "number too large"),
            ("'a", "missing terminating ' character"),
        ] {
            assert_eq!(parse(text).unwrap_err(), message, "{text}");
        }
        assert_eq!(parse(&"(".repeat(4000)).unwrap_err(), "expression too deep");
    }
}
