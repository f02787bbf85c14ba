# What makes one file a Multiboot 1 kernel, a PVH kernel and (its segment behind .bzsetup) a
# bzImage. The program defines linux_start, multiboot_start and pvh_start, 32-bit code each.

# First bytes of the image, at 1 MiB: where bzImage's code32_start points.
    .section .entry, "ax", @progbits
    .code32
    jmp linux_start

# Multiboot Specification 0.6.96, section 3.1. Bit 0: modules on page boundaries, bit 1: memory
# map wanted, bit 16: the address fields are there (an x86-64 ELF file is refused without them).
    .balign 4
multiboot_header:
    .long 0x1badb002
    .long 0x00010003
    .long -(0x1badb002 + 0x00010003)
    .long multiboot_header
    .long __image_start
    .long __image_end
    .long __memory_end
    .long multiboot_start

# Xen's ELF note 18, XEN_ELFNOTE_PHYS32_ENTRY.
    .section .note.pvh, "a", @note
    .balign 4
    .long 4
    .long 8
    .long 18
    .asciz "Xen"
    .quad pvh_start

# The Linux boot protocol's real-mode part, Documentation/arch/x86/boot.rst. Its first page is
# itself the zero page (struct boot_params); the code follows behind it. It runs at any segment.
    .section .bzsetup, "", @progbits
    .code16
bz_start:
    .org 0x1f1
    .byte (bz_end - bz_start) / 512 - 1 # setup_sects
    .word 0                             # root_flags
    .long __bz_syssize                  # syssize
    .word 0                             # ram_size
    .word 0xffff                        # vid_mode: normal
    .word 0                             # root_dev
    .word 0xaa55                        # boot_flag
    .byte 0xeb, bz_header_end - 0x202   # jump
    .ascii "HdrS"                       # header
    .word 0x020c                        # version
    .long 0                             # realmode_swtch
    .word 0                             # start_sys_seg
    .word bz_version - bz_start - 0x200 # kernel_version
    .byte 0                             # type_of_loader
    .byte 1                             # loadflags: LOADED_HIGH
    .word 0                             # setup_move_size
    .long 0x100000                      # code32_start
    .long 0                             # ramdisk_image
    .long 0                             # ramdisk_size
    .long 0                             # bootsect_kludge
    .word 0                             # heap_end_ptr
    .byte 0                             # ext_loader_ver
    .byte 0                             # ext_loader_type
    .long 0                             # cmd_line_ptr
    .long 0x7fffffff                    # initrd_addr_max
    .long 0x1000                        # kernel_alignment
    .byte 0                             # relocatable_kernel
    .byte 12                            # min_alignment
    .word 0                             # xloadflags
    .long 1023                          # cmdline_size
    .long 0                             # hardware_subarch
    .quad 0                             # hardware_subarch_data
    .long 0                             # payload_offset
    .long 0                             # payload_length
    .quad 0                             # setup_data
    .quad 0x100000                      # pref_address
    .long __bz_init_size                # init_size
    .long 0                             # handover_offset
bz_header_end = . - bz_start
    jmp bz_code

    .org 0x1000
bz_version:
    .asciz "bare-metal test guest"

# The loader set DS, ES, FS, GS and SS to this segment and left a stack.
bz_code:
    cli
    cld
# INT 15h, AX=E820h: the memory map, 20 bytes an entry, into boot_params.e820_table.
    xorl %ebx, %ebx
    movw $0x2d0, %di
1:  movl $0xe820, %eax
    movl $0x534d4150, %edx
    movl $20, %ecx
    int $0x15
    jc 2f
    cmpl $0x534d4150, %eax
    jne 2f
    addw $20, %di
    incb 0x1e8
    cmpb $128, 0x1e8
    jae 2f
    testl %ebx, %ebx
    jnz 1b
2:
# A20 through port 0x92, as a BIOS may leave it off.
    inb $0x92, %al
    orb $2, %al
    andb $0xfe, %al
    outb %al, $0x92
# Protected mode: selectors 0x10 and 0x18 as the 32-bit boot protocol wants them.
    xorl %esi, %esi
    movw %ds, %si
    shll $4, %esi
    leal (bz_gdt - bz_start)(%esi), %eax
    movl %eax, (bz_gdt_register - bz_start + 2)
    leal (bz_protected - bz_start)(%esi), %eax
    movl %eax, (bz_target - bz_start)
    cli
    lgdtl (bz_gdt_register - bz_start)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl *(bz_target - bz_start)

    .code32
bz_protected:
    movw $0x18, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    xorl %ebx, %ebx
    xorl %ebp, %ebp
    xorl %edi, %edi
    jmpl *0x214(%esi)

    .balign 8
bz_gdt:
    .quad 0
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
bz_gdt_register:
    .word bz_gdt_register - bz_gdt - 1
    .long 0
    .word 0
bz_target:
    .long 0
    .word 0x10
    .balign 512
bz_end:

    .text
    .code64
