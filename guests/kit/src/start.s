# From any of the three 32-bit entries to long mode with the low 4 GiB mapped one to one, then to
# kit_start(protocol, information). Selectors: 0x08 32-bit code, 0x10 data, 0x18 64-bit code.

    .text
    .code32
    .globl linux_start, multiboot_start, pvh_start
linux_start:
    movl $1, %ebp
    jmp common
multiboot_start:
    movl $2, %ebp
    cmpl $0x2badb002, %eax
    je 1f
    xorl %ebp, %ebp
1:  movl %ebx, %esi
    jmp common
pvh_start:
    movl $3, %ebp
    movl %ebx, %esi
common:
    cli
    cld
    lgdt gdt_register
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl $boot_stack_end, %esp
# A bzImage's loader zeroes nothing.
    xorl %eax, %eax
    movl $__bss_start, %edi
    movl $__bss_end, %ecx
    subl %edi, %ecx
    shrl $2, %ecx
    rep stosl
# Page tables: one PML4 and PDPT entry each, four directories of 2 MiB pages, read-write.
    movl $pdpt + 3, pml4
    movl $directories + 3, %eax
    movl $pdpt, %edi
    movl $4, %ecx
2:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 2b
    movl $0x83, %eax
    movl $directories, %edi
    movl $2048, %ecx
3:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 3b
    calll enable_long_mode
    ljmpl $0x18, $boot64

# Turns paging and long mode on; the caller then jumps to 64-bit code.
enable_long_mode:
# CR4: PAE, OSFXSR, OSXMMEXCPT (libcore's panics use SSE moves).
    movl $0x620, %eax
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
# EFER.LME
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
# CR0: PE, MP, ET, NE, WP, PG; caches on.
    movl $0x80010033, %eax
    movl %eax, %cr0
    retl

    .code64
boot64:
    movl %ebp, %edi
    movl %esi, %esi
    xorl %ebp, %ebp
    call kit_start
4:  hlt
    jmp 4b

# Application processors. The bytes from ap_trampoline to ap_trampoline_end are copied to a page
# below 1 MiB, where the start-up IPI sends the processor in real mode.
    .section .rodata.trampoline, "a", @progbits
    .globl ap_trampoline, ap_trampoline_end
    .code16
ap_trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl ap_gdt_register - ap_trampoline
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x08, $ap32
ap_gdt_register:
    .word gdt_register - gdt - 1
    .long gdt
ap_trampoline_end:

    .text
    .code32
ap32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
# Take a number, and the stack that goes with it.
    movl $1, %edi
    lock xaddl %edi, ap_next
    movl %edi, %esp
    incl %esp
    shll $12, %esp
    addl $ap_stacks, %esp
    calll enable_long_mode
    ljmpl $0x18, $ap64
    .code64
ap64:
    xorl %ebp, %ebp
    movl %edi, %edi
    call kit_ap_start
5:  hlt
    jmp 5b

    .section .data.gdt, "aw", @progbits
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00af9b000000ffff
gdt_register:
    .word gdt_register - gdt - 1
    .quad gdt

    .section .bss.start, "aw", @nobits
    .balign 4096
    .globl pdpt
pml4:        .skip 4096
pdpt:        .skip 4096
directories: .skip 4 * 4096
ap_next:     .skip 4

# 64 KiB for the boot processor, 4 KiB for each of 64 others.
    .section .noinit, "aw", @nobits
    .balign 4096
    .skip 65536
boot_stack_end:
ap_stacks:   .skip 64 * 4096

    .text
    .code64
