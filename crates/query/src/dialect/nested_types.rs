//! `CAST(x AS array(bigint))`: Trino's nested types are nobody else's, so such a cast becomes a call with
//! the type as text (`functions::nested_cast`).

use crate::functions::{CAST, TRY_CAST};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

fn word(tokens: &[TokenWithSpan], at: usize) -> Option<&Word> {
    match tokens.get(at).map(|t| &t.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => Some(word),
        _ => None,
    }
}

fn is_word(tokens: &[TokenWithSpan], at: usize, text: &str) -> bool {
    word(tokens, at).is_some_and(|w| w.value.eq_ignore_ascii_case(text))
}

fn next(tokens: &[TokenWithSpan], mut at: usize) -> usize {
    while matches!(tokens.get(at), Some(t) if matches!(t.token, Token::Whitespace(_))) {
        at += 1;
    }
    at
}

/// Where the `AS` and the closing bracket of a cast are whose opening bracket is at `open`.
fn parts(tokens: &[TokenWithSpan], open: usize) -> Option<(usize, usize)> {
    let (mut depth, mut by) = (0usize, None);
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => return by.map(|by| (by, at)),
            Token::RParen => depth -= 1,
            _ if depth == 1 && is_word(tokens, at, "AS") => by = Some(at),
            _ => {}
        }
    }
    None
}

/// Rewrites the casts to arrays, maps and rows.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut at = 0;
    while at < tokens.len() {
        let name = if is_word(&tokens, at, "CAST") {
            CAST
        } else if is_word(&tokens, at, "TRY_CAST") {
            TRY_CAST
        } else {
            at += 1;
            continue;
        };
        let open = next(&tokens, at + 1);
        let is_call = matches!(tokens.get(open), Some(t) if t.token == Token::LParen);
        let Some((by, end)) = is_call.then(|| parts(&tokens, open)).flatten() else {
            at += 1;
            continue;
        };
        let first = next(&tokens, by + 1);
        let nested = ["ARRAY", "MAP", "ROW"].iter().any(|t| is_word(&tokens, first, t));
        if nested {
            let mut text = String::new();
            for part in first..end {
                match word(&tokens, part) {
                    // A value of type `json` is its text.
                    Some(w) if w.value.eq_ignore_ascii_case("json") => text.push_str("varchar"),
                    _ => text.push_str(&tokens[part].token.to_string()),
                }
            }
            tokens[at].token = Token::make_word(name, Some('"'));
            tokens[by].token = Token::Comma;
            tokens[first].token = Token::SingleQuotedString(text.trim().to_string());
            tokens.drain(first + 1..end);
        }
        at += 1;
    }
    tokens
}
